//! kqueue: the selector of macOS and FreeBSD, and what wakes it.
//!
//! How it behaves, and its traps (kqueue(2); XNU's kern_event.c and uipc_socket.c; FreeBSD's of the same names):
//!
//! - A watch (knote) is for one descriptor and one filter, and a kqueue has one of each at most: to add it again changes
//!   it, but keeps the flags that it was made with. So a watch of another kind is deleted first.
//! - EVFILT_READ is level-triggered, and fires for bytes and for the end alike. Who waits for the end alone would spin on
//!   unread bytes: for that the watch is made with EV_CLEAR, and fires once for whatever arrives. Such a report comes to
//!   nothing if it is about bytes; what it is about when it is the end, it does not tell again. NOTE_LOWAT is no way
//!   out: macOS holds it to the buffer's size.
//! - What is told once is told to one of the threads that wait. The poller must tell the others.
//! - EV_EOF on EVFILT_READ says that no more arrives, also while bytes are unread; on EVFILT_WRITE, that nothing can be
//!   sent any more, which our own half-close brings about too, and on FreeBSD 15 a local peer that reads no more. Only both
//!   say that the connection is severed. So a report with EV_EOF is a reason to ask the socket itself, and nothing more.
//! - After the peer has closed a TCP connection in order, EVFILT_WRITE has no EV_EOF until a reset comes; a local stream
//!   has it at once.
//! - The socket's error comes with EV_EOF in `fflags`. It is still taken with SO_ERROR, as elsewhere.
//! - Readable and writable are two reports. When there are more than one call takes, the second of two may be missing.
//! - Closing a descriptor takes its watches away. Closing the kqueue itself, or a watched socket, need not wake a thread
//!   in kevent. Hence the waker.
//! - It is not inherited by fork: in a child its number means nothing, or another file. Hence wakers know their process.
//! - Reports carry the socket's handle, so one that is out of date when it is read is recognised.
//! - A level-triggered watch that has been reported goes to the end of the kernel's list, so nobody starves.
//! - Its numbers differ: EVFILT_USER is -10 on macOS and -11 on FreeBSD.

const std = @import("std");
const sys = @import("sys.zig");
const posix = @import("posix.zig");
const events = @import("../events.zig");
const status = @import("../status.zig");

const kernel = sys.kevents;
const EV = kernel.EV;
const EVFILT = kernel.EVFILT;
const Kevent = kernel.Kevent;

comptime {
    // <sys/event.h> of each system.
    std.debug.assert(EVFILT.READ == -1);
    std.debug.assert(EVFILT.WRITE == -2);
    std.debug.assert(EV.ADD == 0x1);
    std.debug.assert(EV.DELETE == 0x2);
    std.debug.assert(EV.CLEAR == 0x20);
    std.debug.assert(EV.RECEIPT == 0x40);
    std.debug.assert(EV.ERROR == 0x4000);
    std.debug.assert(EV.EOF == 0x8000);
    std.debug.assert(kernel.NOTE.TRIGGER == 0x01000000);
    std.debug.assert(EVFILT.USER == kernel.filter_user);
    std.debug.assert(@sizeOf(Kevent) == kernel.size);
    std.debug.assert(@offsetOf(Kevent, "filter") == 8);
    std.debug.assert(@offsetOf(Kevent, "data") == 16);
    std.debug.assert(@offsetOf(Kevent, "udata") == 24);
}

/// What one kevent takes at the most. More wait for the next.
const reports_per_wait_max = 512;

fn change(ident: usize, filter: i16, flags: u16, handle: i64) Kevent {
    return .{
        .ident = ident,
        .filter = filter,
        .flags = flags | EV.RECEIPT,
        .fflags = 0,
        .data = 0,
        .udata = @bitCast(@as(isize, @intCast(handle))),
    };
}

/// Makes all changes, whatever becomes of each, and returns the negated code of the first that failed.
fn make(fd: sys.Descriptor, changes: []const Kevent, receipts: []Kevent) isize {
    std.debug.assert(receipts.len >= changes.len);
    if (changes.len == 0) return 0;
    const result = kernel.call(fd, changes, receipts[0..changes.len], 0);
    if (result < 0) return result;
    for (receipts[0..@intCast(result)]) |receipt| {
        if (receipt.flags & EV.ERROR != 0 and receipt.data != 0) return -@as(isize, @intCast(receipt.data));
    }
    return 0;
}

/// Which filters watch a socket.
const Watch = struct {
    read: Read,
    write: bool,

    const Read = enum { no, level, edge };

    fn of(interest: events.Interest) Watch {
        const end = interest.ended or interest.severed;
        return .{ .read = if (interest.readable) .level else if (end) .edge else .no, .write = interest.writable };
    }
};

/// What stands in a kqueue for the waker. Level-triggered: it is reported to every thread until it is taken down.
const waker_number = 0;

/// A kqueue with an EVFILT_USER. It is readable, so that it can be waited for in poll too; and a poller with this
/// selector watches its sockets with the very same kqueue.
pub const Waker = struct {
    fd: sys.Descriptor,
    process_id: i32,

    /// A signal stays until it is taken down, and wakes everybody who waits for this waker.
    pub const lasts = true;

    pub fn open(failure: *status.Failure) status.Error!Waker {
        const result = kernel.make();
        if (result < 0) return failure.system(sys.codeOf(sys.failureOf(result)));
        const waker: Waker = .{ .fd = @intCast(result), .process_id = sys.processId() };
        errdefer waker.close();
        const added = waker.apply(&.{change(waker_number, EVFILT.USER, EV.ADD, 0)});
        if (added < 0) return failure.system(sys.codeOf(sys.failureOf(added)));
        return waker;
    }

    /// A forked child has none, and must not close what has its number.
    pub fn close(waker: Waker) void {
        if (waker.process_id == sys.processId()) sys.close(waker.fd);
    }

    pub fn signal(waker: Waker) void {
        var trigger = change(waker_number, EVFILT.USER, 0, 0);
        trigger.fflags = kernel.NOTE.TRIGGER;
        _ = waker.apply(&.{trigger});
    }

    pub fn drain(waker: Waker) void {
        _ = waker.apply(&.{
            change(waker_number, EVFILT.USER, EV.DELETE, 0),
            change(waker_number, EVFILT.USER, EV.ADD, 0),
        });
    }

    fn apply(waker: Waker, changes: []const Kevent) isize {
        var receipts: [2]Kevent = undefined;
        return make(waker.fd, changes, &receipts);
    }
};

/// The numbers are those of bbipc.h.
pub const Backend = enum(i32) {
    poll = 2,
    kqueue = 4,

    pub const default: Backend = .kqueue;
};

pub const Selector = struct {
    fd: sys.Descriptor,

    pub fn open(waker: sys.Waker, _: *status.Failure) status.Error!Selector {
        return .{ .fd = waker.fd };
    }

    /// The waker's own.
    pub fn close(_: *Selector) void {}

    pub fn arm(
        self: *Selector,
        key: *posix.Selector.Key,
        interest: events.Interest,
        failure: *status.Failure,
    ) status.Error!void {
        const result = self.add(key, interest);
        if (result >= 0) return;
        self.disarm(key);
        return failure.system(sys.codeOf(sys.failureOf(result)));
    }

    pub fn rearm(self: *Selector, key: *posix.Selector.Key, interest: events.Interest) bool {
        // Made anew, so that what the old watches have told already is told again.
        self.disarm(key);
        return self.add(key, interest) >= 0;
    }

    pub fn disarm(self: *Selector, key: *posix.Selector.Key) void {
        const ident: usize = @intCast(key.descriptor);
        const changes = [_]Kevent{
            change(ident, EVFILT.READ, EV.DELETE, 0),
            change(ident, EVFILT.WRITE, EV.DELETE, 0),
        };
        var receipts: [changes.len]Kevent = undefined;
        // One of them may not be there; or somebody closed the descriptor, and the kernel has forgotten both.
        _ = make(self.fd, &changes, &receipts);
    }

    fn add(self: *Selector, key: *posix.Selector.Key, interest: events.Interest) isize {
        const watch: Watch = .of(interest);
        const ident: usize = @intCast(key.descriptor);
        var changes: [2]Kevent = undefined;
        var count: usize = 0;
        if (watch.read != .no) {
            const flags: u16 = if (watch.read == .edge) EV.ADD | EV.CLEAR else EV.ADD;
            changes[count] = change(ident, EVFILT.READ, flags, key.handle);
            count += 1;
        }
        if (watch.write) {
            changes[count] = change(ident, EVFILT.WRITE, EV.ADD, key.handle);
            count += 1;
        }
        var receipts: [changes.len]Kevent = undefined;
        return make(self.fd, changes[0..count], &receipts);
    }
};

pub const Snapshot = struct {
    fd: sys.Descriptor,
    reports: [reports_per_wait_max]Kevent = undefined,
    count: usize = 0,
    cursor: usize = 0,
    /// The other report of a socket may have had no room.
    is_full: bool = false,

    pub fn wait(
        shot: *Snapshot,
        reports_max: usize,
        timeout_ns: ?u64,
        failure: *status.Failure,
    ) status.Error!void {
        std.debug.assert(reports_max > 0);
        const room = @min(reports_max, reports_per_wait_max);
        const result = kernel.call(shot.fd, &.{}, shot.reports[0..room], timeout_ns);
        shot.cursor = 0;
        shot.count = 0;
        if (result < 0) return switch (sys.failureOf(result)) {
            .INTR => error.Interrupted,
            else => |e| failure.system(sys.codeOf(e)),
        };
        shot.count = @intCast(result);
        shot.is_full = shot.count == room;
    }

    pub fn next(shot: *Snapshot) ?events.Report {
        if (shot.cursor == shot.count) return null;
        const event = &shot.reports[shot.cursor];
        shot.cursor += 1;
        if (event.filter == EVFILT.USER) return .{ .handle = 0, .conditions = .{} };
        return .{
            .handle = @as(isize, @bitCast(event.udata)),
            .conditions = if (event.flags & EV.EOF != 0 or shot.is_full) null else .{
                .readable = event.filter == EVFILT.READ,
                .writable = event.filter == EVFILT.WRITE,
            },
            .repeats = event.flags & EV.CLEAR == 0,
        };
    }
};

// ---- poll(2), as other systems have it ----
//
// FreeBSD's poll never wakes a wait that asks for nothing but what is reported unasked, POLLHUP (sopoll_generic in its
// uipc_socket.c), and so hears of no severed connection. macOS's works with a kqueue of its own, and it shows: there is
// no POLLRDHUP; POLLHUP means either direction and hides POLLOUT; a wait for POLLHUP alone is over, unheard, with the
// first byte that arrives; and of a descriptor that is listed twice the second entry alone counts (XNU's sys_generic.c).
// So here is one that does none of this.

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
    const reports = if (room <= few.len) few[0..room] else sys.allocator.alloc(Kevent, room) catch return failed(.NOMEM);
    defer if (room > few.len) sys.allocator.free(reports);

    const made = kernel.make();
    if (made < 0) return pollByLooking(entries, end_ns);
    const fd: sys.Descriptor = @intCast(made);
    defer sys.close(fd);

    var ready: isize = 0;
    for (entries) |*entry| entry.revents = 0;
    // Where a descriptor is listed twice, the watch that is made first counts.
    for ([_]u16{ EV.ADD, EV.ADD | EV.CLEAR }) |flags| for (entries) |*entry| {
        if (entry.fd < 0 or entry.revents != 0) continue;
        const result = addEntry(fd, entry.*, flags);
        if (result >= 0) continue;
        if (sys.failureOf(result) == .NOMEM) return result;
        // Another thread has closed it since. Its number can be this very kqueue's by now, which can't watch itself.
        entry.revents = sys.POLL.NVAL;
        ready += 1;
    };

    while (true) {
        const left_ns: ?u64 = if (ready > 0) 0 else remainingNs(end_ns);
        const result = kernel.call(fd, &.{}, reports, left_ns);
        if (result < 0) return result;
        const reported = reports[0..@intCast(result)];
        std.mem.sort(Kevent, reported, {}, struct {
            fn before(_: void, a: Kevent, b: Kevent) bool {
                return a.ident < b.ident;
            }
        }.before);
        for (entries) |*entry| {
            if (entry.fd < 0 or entry.revents != 0) continue;
            const first = std.sort.lowerBound(Kevent, reported, @as(usize, @intCast(entry.fd)), struct {
                fn order(ident: usize, event: Kevent) std.math.Order {
                    return std.math.order(ident, event.ident);
                }
            }.order);
            noteReports(entry, reported[first..]);
            ready += @intFromBool(entry.revents != 0);
        }
        if (ready > 0 or left_ns == 0) return ready;
    }
}

fn failed(e: sys.E) isize {
    return -@as(isize, sys.codeOf(e));
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

/// Watches, of what poll would report of the entry, that for which the watches have these flags.
fn addEntry(fd: sys.Descriptor, entry: sys.pollfd, flags: u16) isize {
    const watch: Watch = .of(.{
        .readable = entry.events & sys.POLL.IN != 0,
        .writable = entry.events & sys.POLL.OUT != 0,
        .ended = true,
    });
    const ident: usize = @intCast(entry.fd);
    const is_level = flags & EV.CLEAR == 0;
    const wanted: Watch.Read = if (is_level) .level else .edge;
    var changes: [2]Kevent = undefined;
    var count: usize = 0;
    if (watch.read == wanted) {
        changes[count] = change(ident, EVFILT.READ, flags, 0);
        count += 1;
    }
    if (watch.write and is_level) {
        changes[count] = change(ident, EVFILT.WRITE, flags, 0);
        count += 1;
    }
    var receipts: [changes.len]Kevent = undefined;
    return make(fd, changes[0..count], &receipts);
}

/// Sets what poll would report, by the reports of this descriptor, which come first.
fn noteReports(entry: *sys.pollfd, reports: []const Kevent) void {
    var bits: i16 = 0;
    for (reports) |event| {
        if (event.ident != @as(usize, @intCast(entry.fd))) break;
        const is_end = event.flags & EV.EOF != 0;
        if (is_end and sys.pollNow(entry) >= 0) return;
        // Or there was no memory to ask it: half an answer, then, rather than none, which would come again at once.
        bits |= if (event.filter == EVFILT.READ) sys.POLL.IN else sys.POLL.OUT;
        if (is_end and event.filter == EVFILT.READ) bits |= sys.POLLRDHUP;
    }
    entry.revents = bits & entry.events;
}
