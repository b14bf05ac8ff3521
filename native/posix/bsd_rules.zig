//! What bsd.zig and kqueue_poll.zig decide without a kernel, in a file that every system compiles and tests, over
//! kernels that are stood in for.

const std = @import("std");

// <poll.h>: the same on Linux, macOS and FreeBSD. POLLRDHUP is FreeBSD's, and ours on macOS.
pub const in = 0x1;
pub const out = 0x4;
pub const err = 0x8;
pub const hup = 0x10;
pub const nval = 0x20;
pub const rdhup = 0x4000;

pub const System = enum { macos, freebsd };

/// What Linux's poll(2) would tell of one descriptor: what is asked for, and what is told unasked.
///
/// `kernel.look(events)` is the system's own poll for this descriptor, with no time to wait. Its error is passed on.
pub fn conditions(comptime system: System, asked: i16, kernel: anytype) !i16 {
    const told = switch (system) {
        .macos => try conditionsOnMacos(kernel),
        .freebsd => try kernel.look(in | out | rdhup),
    };
    // FreeBSD 15 says it also of a local stream that can send no more, after our half-close for one. A write tells.
    if (told & hup != 0 and told & rdhup == 0) return ((told & ~@as(i16, hup)) | out) & asked;
    return told & (asked | err | nval | hup);
}

/// If there is no end to tell of, macOS's poll tells all. If there is one, each direction has to be asked for by
/// itself.
fn conditionsOnMacos(kernel: anytype) !i16 {
    const told: i16 = try kernel.look(in | out);
    // A kqueue, the waker for one, can be asked for POLLIN alone (XNU's kqueue_kqfilter): to anything else macOS
    // answers that it isn't open.
    if (told & nval != 0) return kernel.look(in);
    if (told & hup == 0) return told;
    const incoming: i16 = try kernel.look(in);
    const outgoing: i16 = try kernel.look(out);
    if (incoming & hup == 0) return incoming | out;
    if (outgoing & hup == 0) return in | rdhup | outgoing;
    return in | rdhup | hup;
}

/// One watch of a kqueue, as the kernel identifies it. `isEdge` is whether it tells once.
///
/// A kqueue has one watch for each descriptor and filter, and one that is added again takes the place of the first: its
/// flags stay, its level is lost. So where a descriptor is listed twice, there is one change for both: the one that
/// tells more, the level-triggered one. Puts those that stay in front, in the order of their descriptors.
pub fn merge(comptime Event: type, list: []Event, comptime isEdge: fn (Event) bool) []Event {
    const Order = struct {
        fn before(_: void, a: Event, b: Event) bool {
            if (a.ident != b.ident) return a.ident < b.ident;
            if (a.filter != b.filter) return a.filter < b.filter;
            return !isEdge(a) and isEdge(b);
        }
    };
    std.mem.sort(Event, list, {}, Order.before);
    var count: usize = 0;
    for (list) |event| {
        if (count > 0 and list[count - 1].ident == event.ident and list[count - 1].filter == event.filter) continue;
        list[count] = event;
        count += 1;
    }
    return list[0..count];
}

/// The events about one descriptor, in a list that is sorted by descriptor.
pub fn about(comptime Event: type, list: []const Event, ident: usize) []const Event {
    const first = std.sort.lowerBound(Event, list, ident, struct {
        fn order(wanted: usize, event: Event) std.math.Order {
            return std.math.order(wanted, event.ident);
        }
    }.order);
    var end = first;
    while (end < list.len and list[end].ident == ident) end += 1;
    return list[first..end];
}
