//! Waking threads that wait in the kernel: each waits for a Waker besides its sockets, and finds out under the
//! library's lock why it was woken.

const std = @import("std");
const sys = @import("../platform.zig").sys;

pub const Notice = enum {
    none,
    /// What the thread waits for has changed: look again, then go on waiting.
    again,
    /// Somebody pressed Ctrl-C: return, so that the caller can act on it.
    interrupt,
};

/// One thread's wait. Lives on that thread's stack.
pub const Waiter = struct {
    /// What wakes this thread. Several may share one.
    waker: sys.Waker,
    /// Changed under the lock. Its own thread may look at it without.
    notice: Notice = .none,
    node: std.DoublyLinkedList.Node = .{},

    /// Whether there is something to hear. Without the lock.
    pub fn hasNotice(waiter: *const Waiter) bool {
        return @atomicLoad(Notice, &waiter.notice, .monotonic) != .none;
    }

    fn from(node: *std.DoublyLinkedList.Node) *Waiter {
        return @fieldParentPtr("node", node);
    }
};

/// All its functions are called with the library's lock held.
pub const Waiters = struct {
    list: std.DoublyLinkedList = .{},
    /// Whether the signal stays although nobody has a notice: see `hold`.
    is_held: bool = false,

    pub fn isEmpty(waiters: *const Waiters) bool {
        return waiters.list.first == null;
    }

    pub fn add(waiters: *Waiters, waiter: *Waiter) void {
        std.debug.assert(waiter.notice == .none);
        waiters.list.append(&waiter.node);
    }

    /// Removes the waiter, and returns its notice.
    pub fn remove(waiters: *Waiters, waiter: *Waiter) Notice {
        waiters.list.remove(&waiter.node);
        // A signal that lasts is one for all threads that share the waker: the last to hear it takes it down.
        if (waiter.notice != .none and !waiters.is_held and !waiters.anyHasNotice()) waiter.waker.drain();
        return waiter.notice;
    }

    fn anyHasNotice(waiters: *const Waiters) bool {
        var next = waiters.list.first;
        while (next) |node| : (next = node.next) {
            if (Waiter.from(node).notice != .none) return true;
        }
        return false;
    }

    /// Has a signal stay for as long as `holds`, for whoever watches the waker from outside. Only where signals last.
    pub fn hold(waiters: *Waiters, waker: sys.Waker, holds: bool) void {
        if (waiters.is_held == holds) return;
        waiters.is_held = holds;
        if (holds) waker.signal() else if (!waiters.anyHasNotice()) waker.drain();
    }

    pub fn notifyAll(waiters: *Waiters, notice: Notice) void {
        var signalled: ?sys.Waker = null;
        var next = waiters.list.first;
        while (next) |node| : (next = node.next) {
            const waiter: *Waiter = .from(node);
            if (!leave(waiter, notice)) continue;
            if (sys.Waker.lasts and std.meta.eql(signalled, waiter.waker)) continue;
            waiter.waker.signal();
            signalled = waiter.waker;
        }
    }

    pub fn notifyFirst(waiters: *Waiters, notice: Notice) void {
        const node = waiters.list.first orelse return;
        const waiter: *Waiter = .from(node);
        if (leave(waiter, notice)) waiter.waker.signal();
    }

    /// Whether the waiter has to be woken to see it. The weightier notice stays.
    fn leave(waiter: *Waiter, notice: Notice) bool {
        std.debug.assert(notice != .none);
        const before = waiter.notice;
        const weightier: Notice = @fromBackingInt(@max(@backingInt(before), @backingInt(notice)));
        @atomicStore(Notice, &waiter.notice, weightier, .monotonic);
        return before == .none;
    }

    /// Signals anew to those who have not heard their notice yet: where only one thread hears a signal, the wrong
    /// thread can have taken it.
    pub fn signalAgain(waiters: *Waiters) void {
        var next = waiters.list.first;
        while (next) |node| : (next = node.next) {
            const waiter: *Waiter = .from(node);
            if (waiter.notice != .none) waiter.waker.signal();
        }
    }
};
