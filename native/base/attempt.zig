//! An attempt to connect, as the first call leaves it.

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
