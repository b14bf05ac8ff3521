//! The root of the program random-calls: a root may import what is in its own folder, and below.

pub const main = @import("tests/random_calls.zig").main;
