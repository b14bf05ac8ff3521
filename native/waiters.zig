//! Waking threads that wait in the kernel: each waits for the descriptor of one Waker besides its sockets, and finds out
//! under the library's lock why it was woken.

const std = @import("std");
const sys = @import("platform.zig").sys;

pub const Notice = enum {
    none,
    /// What the thread waits for has changed: look again, then go on waiting.
    again,
    /// Return to the caller.
    end,
};

/// One thread's wait. Lives on that thread's stack.
pub const Waiter = struct {
    notice: Notice = .none,
    node: std.DoublyLinkedList.Node = .{},
};

/// All its functions are called with the library's lock held.
pub const Waiters = struct {
    waker: sys.Waker,
    list: std.DoublyLinkedList = .{},
    /// The waker stays signalled although no waiter has a notice: for a wake-up that the next wait shall find.
    held: bool = false,

    pub fn isEmpty(waiters: *const Waiters) bool {
        return waiters.list.first == null;
    }

    pub fn add(waiters: *Waiters, waiter: *Waiter) void {
        std.debug.assert(waiter.notice == .none);
        waiters.list.append(&waiter.node);
    }

    /// Takes the waiter off and tells what it missed.
    pub fn remove(waiters: *Waiters, waiter: *Waiter) Notice {
        waiters.list.remove(&waiter.node);
        if (waiter.notice != .none) waiters.drainIfHeard();
        return waiter.notice;
    }

    pub fn notifyAll(waiters: *Waiters, notice: Notice) void {
        std.debug.assert(notice != .none);
        if (waiters.isEmpty()) return;
        var next = waiters.list.first;
        while (next) |node| : (next = node.next) {
            const waiter: *Waiter = @fieldParentPtr("node", node);
            if (waiter.notice != .end) waiter.notice = notice;
        }
        waiters.waker.signal();
    }

    pub fn hold(waiters: *Waiters) void {
        waiters.held = true;
        waiters.waker.signal();
    }

    pub fn release(waiters: *Waiters) void {
        waiters.held = false;
        waiters.drainIfHeard();
    }

    /// The waker's signal is one for all, so the last to hear it takes it down.
    fn drainIfHeard(waiters: *Waiters) void {
        if (waiters.held) return;
        var next = waiters.list.first;
        while (next) |node| : (next = node.next) {
            const waiter: *Waiter = @fieldParentPtr("node", node);
            if (waiter.notice != .none) return;
        }
        waiters.waker.drain();
    }
};
