//! Empty: this package is its tests, in `tests/it/`.
