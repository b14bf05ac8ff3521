//! What a stream keeps itself once it is used for messages: what has come and was not read, and what is to be sent. A
//! stream that is used for bytes alone has none.

const std = @import("std");
const events = @import("../base/events.zig");
const platform = @import("../platform.zig");
const Inbox = @import("inbox.zig").Inbox;
const Outbox = @import("outbox.zig").Outbox;

const allocator = platform.sys.allocator;

pub const Mailbox = struct {
    incoming: Inbox = .{},
    outgoing: Outbox = .{},
    kept_bits: std.atomic.Value(u8) = .init(0),
    /// Another number after bytes have come or gone, or other events hold. The bits alone could be the same again.
    changes_count: std.atomic.Value(u32) = .init(0),

    pub fn create() error{OutOfMemory}!*Mailbox {
        const mailbox = try allocator.create(Mailbox);
        mailbox.* = .{};
        return mailbox;
    }

    pub fn destroy(mailbox: *Mailbox) void {
        mailbox.incoming.release();
        mailbox.outgoing.release();
        allocator.destroy(mailbox);
    }

    /// Whether nothing would be lost with it. With both locks.
    pub fn isEmpty(mailbox: *const Mailbox) bool {
        const outgoing = &mailbox.outgoing;
        return mailbox.incoming.isEmpty() and outgoing.isEmpty() and !outgoing.is_cut;
    }

    pub fn kept(mailbox: *const Mailbox) events.Kept {
        return @bitCast(mailbox.kept_bits.load(.acquire));
    }

    /// With the lock of what has come.
    pub fn noteIncoming(mailbox: *Mailbox) void {
        const incoming = &mailbox.incoming;
        mailbox.note(.{ .bytes = true, .message = true }, .{
            .bytes = !incoming.isEmpty(),
            .message = incoming.front() != .incomplete,
        });
    }

    /// The same when nobody reads on at once.
    pub fn settleIncoming(mailbox: *Mailbox) void {
        mailbox.incoming.settle();
        mailbox.noteIncoming();
    }

    /// With the lock of what is to be sent.
    pub fn noteOutgoing(mailbox: *Mailbox) void {
        mailbox.note(.{ .rest = true }, .{ .rest = !mailbox.outgoing.isEmpty() });
    }

    fn note(mailbox: *Mailbox, of: events.Kept, now: events.Kept) void {
        const mask: u8 = @bitCast(of);
        const bits: u8 = @bitCast(now);
        var before = mailbox.kept_bits.load(.monotonic);
        while (before & mask != bits) {
            before = mailbox.kept_bits.cmpxchgWeak(before, before & ~mask | bits, .acq_rel, .monotonic) orelse
                return mailbox.changed();
        }
    }

    pub fn changed(mailbox: *Mailbox) void {
        _ = mailbox.changes_count.fetchAdd(1, .acq_rel);
    }

    pub fn changes(mailbox: *const Mailbox) u32 {
        return mailbox.changes_count.load(.acquire);
    }

    // ---- Around fork() ----

    pub fn lock(mailbox: *Mailbox) void {
        mailbox.incoming.lock.lock();
        mailbox.outgoing.lock.lock();
    }

    pub fn unlock(mailbox: *Mailbox) void {
        mailbox.outgoing.lock.unlock();
        mailbox.incoming.lock.unlock();
    }

    /// In the child, with both locks held. The rest is the parent's to send: it would go twice.
    pub fn afterForkInChild(mailbox: *Mailbox) void {
        mailbox.outgoing.release();
        mailbox.outgoing.finishes = false;
        mailbox.noteOutgoing();
        mailbox.unlock();
    }
};
