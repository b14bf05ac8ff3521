//! How a local server is made.

pub const LocalOptions = struct {
    backlog: i32,
    /// The close deletes the file, where there is one.
    deletes: bool,
    /// A server that has died is replaced, and one that lives is an error of its own.
    replaces_dead: bool = false,
    /// What chmod(2) takes. Null is the system's default.
    permissions: ?u32 = null,

    pub const permissions_max = 0o777;
};
