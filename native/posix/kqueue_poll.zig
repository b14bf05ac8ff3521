//! poll(2) as other systems have it, made of kqueue(2). It is given the system, so that its tests
//! run everywhere, over kernels that are stood in for.
//!
//! FreeBSD's own poll never wakes a wait that asks for nothing but what is reported unasked, POLLHUP (sopoll_generic in
//! its uipc_socket.c), and so hears of no severed connection. macOS's works with a kqueue of its own, and it shows:
//! there is no POLLRDHUP; POLLHUP means either direction and hides POLLOUT; a wait for POLLHUP alone is over, unheard,
//! with the first byte that arrives; and of a descriptor that is listed twice the second entry alone counts (XNU's
//! sys_generic.c). So here is one that does none of this.

const std = @import("std");
const rules = @import("bsd_rules.zig");
const kqueue_changes = @import("kqueue_changes.zig");
const events = @import("../base/events.zig");

/// `sys` is sys.zig, or has the names of it that are used here.
pub fn Of(comptime sys: type) type {
    return struct {
        const kernel = sys.kevents;
        const EV = kernel.EV;
        const EVFILT = kernel.EVFILT;
        const Kevent = kernel.Kevent;

        const changing = kqueue_changes.Of(kernel);
        const change = changing.change;
        const codeIn = changing.codeIn;
        const Watch = changing.Watch;

        const few_entries = 17;

        /// Out of descriptors, or of memory: how long to sleep between two looks.
        const pause_ns = 10 * std.time.ns_per_ms;

        /// Like poll(2) with POLLRDHUP.
        pub fn poll(entries: []sys.pollfd, timeout_ns: ?u64) isize {
            const end_ns: ?u64 = if (timeout_ns) |ns| sys.monotonicNs() +| ns else null;
            if (entries.len <= few_entries) {
                // Cheaper than a kqueue, and mostly enough.
                const ready = lookAtAll(entries);
                if (ready != 0 or timeout_ns == 0) return ready;
            }
            var few: [2 * few_entries]Kevent = undefined;
            const room = 2 * @max(1, entries.len);
            const reports = if (room <= few.len)
                few[0..room]
            else
                sys.allocator.alloc(Kevent, room) catch return sys.resultOf(.NOMEM);
            defer if (room > few.len) sys.allocator.free(reports);

            const made = kernel.make();
            if (made < 0) return pollByLooking(entries, end_ns);
            const fd: sys.Descriptor = @intCast(made);
            defer sys.close(fd);

            var ready = watchAll(fd, entries, reports);
            if (ready < 0) return ready;
            while (true) {
                const left_ns: ?u64 = if (ready > 0) 0 else remainingNs(end_ns);
                const result = kernel.call(fd, &.{}, reports, left_ns);
                if (result < 0) return result;
                const reported = rules.merge(Kevent, reports[0..@intCast(result)], isEdge);
                var refused: isize = 0;
                for (entries) |*entry| {
                    if (entry.fd < 0 or entry.revents != 0) continue;
                    const noted = noteReports(entry, rules.about(Kevent, reported, @intCast(entry.fd)));
                    if (noted < 0) refused = noted;
                    ready += @intFromBool(entry.revents != 0);
                }
                if (ready > 0) return ready;
                if (refused < 0 or left_ns == 0) return refused;
                // What is told for ever and comes to nothing is a state that nobody foresaw, and must not spin the
                // processor.
                for (reported) |event| if (event.flags & EV.CLEAR == 0) {
                    const slept = kernel.sleep(@min(left_ns orelse pause_ns, pause_ns));
                    if (slept < 0) return slept;
                    break;
                };
            }
        }

        fn remainingNs(end_ns: ?u64) ?u64 {
            return (end_ns orelse return null) -| sys.monotonicNs();
        }

        fn lookAtAll(entries: []sys.pollfd) isize {
            var ready: isize = 0;
            for (entries) |*entry| {
                entry.revents = 0;
                if (entry.fd < 0) continue;
                const result = sys.pollNow(entry);
                if (result < 0) return result;
                ready += result;
            }
            return ready;
        }

        /// Where there is no kqueue to be had, a wait still comes to its end.
        fn pollByLooking(entries: []sys.pollfd, end_ns: ?u64) isize {
            while (true) {
                const ready = lookAtAll(entries);
                if (ready != 0) return ready;
                const left_ns = remainingNs(end_ns) orelse pause_ns;
                if (left_ns == 0) return 0;
                const slept = kernel.sleep(@min(left_ns, pause_ns));
                if (slept < 0) return slept;
            }
        }

        /// Watches every entry for what poll reports when it is asked or unasked. Returns how many can't be watched.
        fn watchAll(fd: sys.Descriptor, entries: []sys.pollfd, room: []Kevent) isize {
            var count: usize = 0;
            for (entries) |*entry| {
                entry.revents = 0;
                if (entry.fd >= 0) count += watchOf(entry.*).changes(entry.fd, 0, room[count..]).len;
            }
            const changes = rules.merge(Kevent, room[0..count], isEdge);
            // kqueue(2) lets both lists be one.
            const result = kernel.call(fd, changes, changes, 0);
            if (result < 0) return result;
            var failed: usize = 0;
            for (changes[0..@intCast(result)]) |receipt| {
                const code = codeIn(receipt);
                if (code == 0) continue;
                if (code == sys.codeOf(.NOMEM)) return sys.resultOf(.NOMEM);
                changes[failed] = receipt;
                failed += 1;
            }
            var unwatched: isize = 0;
            if (failed > 0) for (entries) |*entry| {
                // Another thread has closed it since. Its number can be this very kqueue's by now, which can't watch
                // itself.
                if (entry.fd < 0 or rules.about(Kevent, changes[0..failed], @intCast(entry.fd)).len == 0) continue;
                entry.revents = sys.POLL.NVAL;
                unwatched += 1;
            };
            return unwatched;
        }

        fn isEdge(event: Kevent) bool {
            return event.flags & EV.CLEAR != 0;
        }

        fn watchOf(entry: sys.pollfd) Watch {
            const readable = entry.events & sys.POLL.IN != 0;
            return .of(.{
                .readable = readable,
                .writable = entry.events & sys.POLL.OUT != 0,
                .ended = true,
                // Who reads learns of it in any case. A waker does, and a kqueue has nothing else to be watched for.
                .severed = !readable,
            });
        }

        /// Sets what poll would report, by the reports of this descriptor. Below zero if it can't be asked what has
        /// ended: a report that is told once would be lost.
        fn noteReports(entry: *sys.pollfd, reports: []const Kevent) isize {
            var bits: i16 = 0;
            var asked: isize = 0;
            for (reports) |event| {
                const is_end = event.flags & EV.EOF != 0;
                if (is_end) {
                    asked = sys.pollNow(entry);
                    if (asked >= 0) return 0;
                }
                // No memory to ask it: half an answer, then, rather than none, which would come again at once.
                bits |= if (event.filter == EVFILT.READ) sys.POLL.IN else sys.POLL.OUT;
                if (is_end and event.filter == EVFILT.READ) bits |= sys.POLLRDHUP;
            }
            entry.revents = bits & entry.events;
            return if (entry.revents != 0) 0 else asked;
        }
    };
}

const testing = std.testing;
const stand_ins = @import("bsd_stand_ins.zig");
const File = stand_ins.File;
const waker = 1;

/// One wait, over both kernels.
const Case = struct {
    start: []const stand_ins.Happening,
    then: []const stand_ins.Happening = &.{},
    /// Descriptors and what is asked of them, then what is told.
    entries: []const [2]i16,
    told: []const i16,
    timeout_ns: ?u64 = null,
    looks_refused: usize = 0,
    has_kqueues: bool = true,

    fn run(case: Case) !void {
        inline for (.{ .macos, .freebsd }) |system| {
            errdefer std.debug.print("over the kernel of {t}:\n", .{@as(rules.System, system)});
            const sys = stand_ins.System(system);
            sys.begin(case.start, case.then);
            sys.has_kqueues = case.has_kqueues;
            var entries: [8]sys.pollfd = undefined;
            for (case.entries, 0..) |entry, index| entries[index] = .{ .fd = entry[0], .events = entry[1] };
            const ready = Of(sys).poll(entries[0..case.entries.len], case.timeout_ns);
            try testing.expect(ready >= 0);
            var expected: isize = 0;
            for (case.told, entries[0..case.told.len]) |told, entry| {
                try testing.expectEqual(told, entry.revents);
                expected += @intFromBool(told != 0);
            }
            try testing.expectEqual(expected, ready);
            // It slept until something came: no wait is begun again and again.
            try testing.expect(sys.waits <= case.then.len + 2);
            if (case.has_kqueues) try testing.expectEqual(0, sys.pauses);
        }
    }
};

fn stream(fd: i32, state: File.Stream) stand_ins.Happening {
    return .{ .fd = fd, .file = .{ .stream = state } };
}

const idle_waker: stand_ins.Happening = .{ .fd = waker, .file = .{ .kqueue = false } };

test "a wait beside the idle waker sleeps until its time is up" {
    try Case.run(.{
        .start = &.{ idle_waker, stream(3, .{ .room = 0 }) },
        .entries = &.{ .{ 3, rules.in | rules.out | rules.rdhup }, .{ waker, rules.in } },
        .told = &.{ 0, 0 },
        .timeout_ns = std.time.ns_per_s,
    });
}

test "a wait ends with the waker's signal, and with what arrives" {
    const start = [_]stand_ins.Happening{ idle_waker, stream(3, .{}) };
    const entries = [_][2]i16{ .{ 3, rules.in | rules.rdhup }, .{ waker, rules.in } };
    const signal: stand_ins.Happening = .{ .fd = waker, .file = .{ .kqueue = true } };
    try Case.run(.{ .start = &start, .then = &.{signal}, .entries = &entries, .told = &.{ 0, rules.in } });
    const bytes = stream(3, .{ .unread = true });
    try Case.run(.{ .start = &start, .then = &.{bytes}, .entries = &entries, .told = &.{ rules.in, 0 } });
    const end = stream(3, .{ .unread = true, .ended = true });
    try Case.run(.{ .start = &start, .then = &.{end}, .entries = &entries, .told = &.{ rules.in | rules.rdhup, 0 } });
}

test "a stream that is listed for room and for its severing hears of the first bytes of room, in either order" {
    const start = [_]stand_ins.Happening{ idle_waker, stream(3, .{ .room = 0 }) };
    const some_room = [_]stand_ins.Happening{stream(3, .{ .room = 2048 })};
    const last: [2]i16 = .{ waker, rules.in };
    try Case.run(.{
        .start = &start,
        .then = &some_room,
        .entries = &.{ .{ 3, rules.out }, .{ 3, 0 }, last },
        .told = &.{ rules.out, 0, 0 },
    });
    try Case.run(.{
        .start = &start,
        .then = &some_room,
        .entries = &.{ .{ 3, 0 }, .{ 3, rules.out }, last },
        .told = &.{ 0, rules.out, 0 },
    });
}

test "a stream that is listed for its end and for bytes hears of both" {
    const start = [_]stand_ins.Happening{ idle_waker, stream(3, .{}) };
    const entries = [_][2]i16{ .{ 3, rules.rdhup }, .{ 3, rules.in }, .{ waker, rules.in } };
    const bytes = [_]stand_ins.Happening{stream(3, .{ .unread = true })};
    try Case.run(.{ .start = &start, .then = &bytes, .entries = &entries, .told = &.{ 0, rules.in, 0 } });
    const end = [_]stand_ins.Happening{stream(3, .{ .ended = true })};
    try Case.run(.{ .start = &start, .then = &end, .entries = &entries, .told = &.{ rules.rdhup, rules.in, 0 } });
}

test "who waits for the severing alone sleeps through bytes, room and either end" {
    try Case.run(.{
        .start = &.{ idle_waker, stream(3, .{ .room = 0 }) },
        .then = &.{
            stream(3, .{ .room = 0, .unread = true }),
            stream(3, .{ .unread = true }),
            stream(3, .{ .unread = true, .ended = true }),
            stream(3, .{ .unread = true, .ended = true, .shut = true }),
        },
        .entries = &.{ .{ 3, 0 }, .{ waker, rules.in } },
        .told = &.{ rules.hup, 0 },
    });
}

test "every entry of a descriptor that another thread closed is told so" {
    inline for (.{ .macos, .freebsd }) |system| {
        const sys = stand_ins.System(system);
        sys.begin(&.{idle_waker}, &.{});
        var entries: [3]sys.pollfd = .{
            .{ .fd = 3, .events = rules.out },
            .{ .fd = waker, .events = rules.in },
            .{ .fd = 3, .events = 0 },
        };
        var room: [6]sys.kevents.Kevent = undefined;
        try testing.expectEqual(2, Of(sys).watchAll(8, &entries, &room));
        for ([_]i16{ rules.nval, 0, rules.nval }, entries) |told, entry| try testing.expectEqual(told, entry.revents);
    }
}

test "a report that is told once is not lost when the socket can't be asked: the wait fails" {
    inline for (.{ .macos, .freebsd }) |system| {
        const sys = stand_ins.System(system);
        sys.begin(&.{ idle_waker, stream(3, .{}) }, &.{stream(3, .{ .shut = true, .ended = true })});
        // So many entries that no look is taken first, which would be refused instead.
        var entries: [18]sys.pollfd = @splat(.{ .fd = -1, .events = 0 });
        entries[0].fd = 3;
        sys.looks_refused = 2;
        try testing.expectEqual(sys.resultOf(.NOMEM), Of(sys).poll(&entries, null));
        sys.looks_refused = 0;
        try testing.expectEqual(1, Of(sys).poll(&entries, null));
        try testing.expectEqual(rules.hup, entries[0].revents);
    }
}

test "without a kqueue to be had, a wait looks now and then, and ends in time" {
    const start = [_]stand_ins.Happening{ idle_waker, stream(3, .{}) };
    const entries = [_][2]i16{ .{ 3, rules.in }, .{ waker, rules.in } };
    try Case.run(.{
        .start = &start,
        .entries = &entries,
        .told = &.{ 0, 0 },
        .timeout_ns = std.time.ns_per_s,
        .has_kqueues = false,
    });
    const bytes = [_]stand_ins.Happening{stream(3, .{ .unread = true })};
    const told = [_]i16{ rules.in, 0 };
    try Case.run(.{ .start = &start, .then = &bytes, .entries = &entries, .told = &told, .has_kqueues = false });
}
