//! The plans over random histories.
