//! Large memory on the stack that nobody fills first.

/// Calls a function with a pointer to memory of that type, and these arguments behind it.
///
/// Where safety is on, Zig fills what is undefined with a pattern: kilobytes for each wait, most of which report a
/// socket or two. It is off for this function alone, which does nothing that could need it.
pub fn with(
    comptime Memory: type,
    comptime function: anytype,
    arguments: anytype,
) @typeInfo(@TypeOf(function)).@"fn".return_type.? {
    @setRuntimeSafety(false);
    var memory: Memory = undefined;
    return @call(.auto, function, .{&memory} ++ arguments);
}
