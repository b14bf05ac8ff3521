//! An attempt to connect, as far as it has come at once.

pub fn Attempt(comptime Transport: type) type {
    return struct {
        transport: Transport,
        state: State,
    };
}

pub const State = union(enum) {
    connected,
    /// The transport tells when it has ended.
    under_way,
    /// The system's code.
    failed: i32,
};
