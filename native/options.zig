//! How the library is built where that is not chosen by the target: `python -m ziglang build --help` explains them.

/// Linux: let the poller use libkqueue instead of epoll.
pub const libkqueue = false;

/// Where poll(2) could do it, wait with a kqueue all the same, as macOS has to.
pub const polls_by_kqueue = false;
