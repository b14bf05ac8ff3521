//! poll(2) as other systems have it, made of kqueue(2). It is given the system, so that its tests
//! run everywhere, over kernels that are stood in for.
//!
//! FreeBSD's own poll never wakes a wait that asks for nothing but what is reported unasked, POLLHUP (sopoll_generic in
//! its uipc_socket.c), and so hears of no severed connection. macOS's works with a kqueue of its own, and it shows:
//! there is no POLLRDHUP; POLLHUP means either direction and hides POLLOUT; a wait for POLLHUP alone ends, with no
//! report, at the first byte that arrives; and if a descriptor is listed twice, only the second entry counts (XNU's
//! sys_generic.c). This poll has none of these faults.

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

        /// How long to sleep between two looks when there are no descriptors left, or no memory.
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
                // A report that comes for ever and leads to nothing is a state that nobody foresaw. It must not spin
                // the processor.
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

        /// Where no kqueue can be made, a wait still comes to its end.
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
        pub fn watchAll(fd: sys.Descriptor, entries: []sys.pollfd, room: []Kevent) isize {
            var count: usize = 0;
            for (entries) |*entry| {
                entry.revents = 0;
                if (entry.fd >= 0) count += watchOf(entry.*).changes(entry.fd, 0, room[count..]).len;
            }
            const changes = rules.merge(Kevent, room[0..count], isEdge);
            // kqueue(2) allows both lists to be the same memory.
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
                // Another thread has closed the descriptor since. Its number may now be that of this kqueue, which
                // can't watch itself.
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
                // A watch for reading tells of it too. A waker has one, and a kqueue can be watched for nothing else.
                .severed = !readable,
            });
        }

        /// Sets what poll would report, by the reports of this descriptor. Below zero if the look at what has ended
        /// fails: a report that comes once would be lost.
        fn noteReports(entry: *sys.pollfd, reports: []const Kevent) isize {
            var bits: i16 = 0;
            var asked: isize = 0;
            for (reports) |event| {
                const is_end = event.flags & EV.EOF != 0;
                if (is_end) {
                    asked = sys.pollNow(entry);
                    if (asked >= 0) return 0;
                }
                // The look had no memory. Half an answer is better than none: the report would come again at once.
                bits |= if (event.filter == EVFILT.READ) sys.POLL.IN else sys.POLL.OUT;
                if (is_end and event.filter == EVFILT.READ) bits |= sys.POLLRDHUP;
            }
            entry.revents = bits & entry.events;
            return if (entry.revents != 0) 0 else asked;
        }
    };
}
