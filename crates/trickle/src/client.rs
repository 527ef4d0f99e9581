//! Publisher and subscriber over HTTP.
