//! Streams, the same on every system and for every transport: what is sent and received, what follows from the errors,
//! and what is known of the connection. A transport moves bytes, and tells what the system says.

const std = @import("std");
const platform = @import("../platform.zig");
const events = @import("../base/events.zig");
const net = @import("../net/address.zig");
const status = @import("../base/status.zig");
const Connection = @import("connection.zig").Connection;
const Mailbox = @import("mailbox.zig").Mailbox;

const Transport = platform.Transport;

/// Events that depend on whether bytes of a remote end that has gone are still to be read.
const of_unread = events.data_available | events.end_of_data | events.inside.more_data;

pub const Stream = struct {
    transport: Transport,
    /// Kept, because the system forgets it when the connection ends.
    remote_address: net.Address,
    connection: Connection = .{},
    /// Whether somebody else goes on with the connection: nothing more is read into the mailbox, or sent from it.
    is_detached: std.atomic.Value(bool) = .init(false),
    /// Made when it is first used for messages, with the library's lock held, and then there for good.
    mailbox: std.atomic.Value(?*Mailbox) = .init(null),

    pub fn established(transport: Transport, remote_address: net.Address) Stream {
        return .{ .transport = transport, .remote_address = remote_address, .connection = .established };
    }

    // ---- Connecting ----

    pub fn connectLocal(pathname: []const u8, failure: *status.Failure) status.Error!Stream {
        return .established(try platform.connectLocal(pathname, failure), .local);
    }

    /// The port that the system chooses can be the very port that the stream connects to. TCP then connects the socket
    /// to itself (simultaneous open, RFC 9293, 3.5), where a user expects a refusal. Another try gets another port.
    const self_connects_max = 8;

    /// `local` is the address to connect from, if it matters.
    pub fn connectTcp(remote: net.Address, local: ?net.Local, failure: *status.Failure) status.Error!Stream {
        const chooses_port = if (local) |from| from.address.port() == 0 else true;
        for (0..self_connects_max) |_| {
            var attempt = try platform.connectTcp(remote, local, failure);
            errdefer attempt.transport.close(&.{});
            if (chooses_port and attempt.state != .failed) {
                const chosen = try attempt.transport.localAddress(failure);
                if (chosen.eql(remote.reached())) {
                    // Or the connection would linger, and keep the port from the server that is to come.
                    attempt.transport.prepareAbort();
                    attempt.transport.close(&.{});
                    continue;
                }
            }
            var stream: Stream = .{ .transport = attempt.transport, .remote_address = remote };
            switch (attempt.state) {
                .connected => stream.connection.establish(),
                .under_way => {},
                .failed => |code| stream.connection.fail(code),
            }
            return stream;
        }
        return failure.system(platform.sys.refused_connection);
    }

    // ---- From elsewhere, and to there ----

    pub fn adopt(descriptor: i64, failure: *status.Failure) status.Error!Stream {
        const adopted = try platform.adoptStream(descriptor, failure);
        return .established(adopted.transport, adopted.remote);
    }

    /// The remote end is still to come, and says a word.
    pub fn awaitClient(
        pathname: []const u8,
        words: *const platform.Words,
        failure: *status.Failure,
    ) status.Error!Stream {
        return .{ .transport = try platform.awaitClient(pathname, words, failure), .remote_address = .local };
    }

    /// A descriptor for somebody else, who reads and writes from here on. Refused while the stream keeps bytes, which
    /// would be lost. With the library's lock held.
    pub fn detach(stream: *Stream, failure: *status.Failure) status.Error!i64 {
        const mailbox = stream.mailbox.load(.acquire);
        // Another thread could bring bytes meanwhile.
        if (mailbox) |one| one.lock();
        defer if (mailbox) |one| one.unlock();
        if (mailbox) |one| if (!one.isEmpty()) return failure.system(platform.sys.busy);
        const descriptor = try stream.transport.detach(failure);
        stream.is_detached.store(true, .release);
        return descriptor;
    }

    // ---- Bytes ----

    /// What the stream keeps comes first.
    pub fn read(stream: *Stream, buffer: []u8, peek: bool, failure: *status.Failure) status.Error!usize {
        std.debug.assert(buffer.len > 0);
        const mailbox = stream.mailbox.load(.acquire) orelse return stream.receive(buffer, peek, failure);
        const incoming = &mailbox.incoming;
        incoming.lock.lock();
        defer incoming.lock.unlock();
        if (incoming.isEmpty()) return stream.receive(buffer, peek, failure);
        defer mailbox.settleIncoming();
        // An error is told by the next call.
        if (peek) {
            while (incoming.unread().len < buffer.len) {
                if ((stream.fill(mailbox, failure) catch break) == 0) break;
            }
            return incoming.copyTo(buffer);
        }
        const count = incoming.copyTo(buffer);
        incoming.remove(count);
        if (count == buffer.len) return count;
        return count + (stream.receive(buffer[count..], false, failure) catch 0);
    }

    /// Reads into the mailbox, once. With the lock of what has come; whoever calls it settles that.
    pub fn fill(stream: *Stream, mailbox: *Mailbox, failure: *status.Failure) status.Error!usize {
        if (stream.is_detached.load(.acquire)) return error.InvalidHandle;
        const count = try stream.receive(try mailbox.incoming.room(), false, failure);
        if (count == 0) return 0;
        mailbox.incoming.added(count);
        mailbox.changed();
        // At once, so that nobody sees the end without the bytes before it.
        mailbox.noteIncoming();
        return count;
    }

    /// From the system.
    fn receive(stream: *Stream, buffer: []u8, peek: bool, failure: *status.Failure) status.Error!usize {
        if (!try stream.stands(failure)) return 0;
        switch (stream.transport.receive(buffer, peek)) {
            .count => |count| if (count > 0) return count,
            .nothing => return 0,
            .refused, .not_ours => |code| return failure.system(code),
            .broken => |code| stream.broke(code),
        }
        if (stream.transport.resetAtEnd()) |code| stream.broke(code);
        // The system gives unread bytes first: this is the end of them.
        stream.connection.known.add(.{ .ended = true, .drained = true });
        const code = stream.connection.errorCode();
        return if (code == 0) 0 else failure.system(code);
    }

    /// The rest of a message goes first.
    pub fn write(stream: *Stream, data: []const u8, failure: *status.Failure) status.Error!usize {
        std.debug.assert(data.len > 0);
        const mailbox = stream.mailbox.load(.acquire) orelse return stream.send(data, failure);
        mailbox.outgoing.lock.lock();
        defer mailbox.outgoing.lock.unlock();
        return if (try stream.sendRest(mailbox, failure)) stream.send(data, failure) else 0;
    }

    /// False if some of it is left. With the lock of what is to be sent.
    pub fn sendRest(stream: *Stream, mailbox: *Mailbox, failure: *status.Failure) status.Error!bool {
        const outgoing = &mailbox.outgoing;
        if (stream.is_detached.load(.acquire)) return error.InvalidHandle;
        if (outgoing.is_cut) return error.OutOfMemory;
        if (outgoing.isEmpty()) return true;
        defer mailbox.noteOutgoing();
        while (!outgoing.isEmpty()) {
            const count = try stream.send(outgoing.rest, failure);
            if (count == 0) return false;
            outgoing.remove(count);
            mailbox.changed();
        }
        if (!outgoing.finishes) return true;
        outgoing.finishes = false;
        try stream.finishNow(failure);
        return true;
    }

    /// To the system.
    pub fn send(stream: *Stream, data: []const u8, failure: *status.Failure) status.Error!usize {
        if (!try stream.stands(failure)) return 0;
        switch (stream.transport.send(data)) {
            .count => |count| return count,
            .nothing => return 0,
            .refused, .not_ours => |code| return failure.system(code),
            .broken => |code| {
                // What has come is still to be read.
                stream.keepError(code);
                return failure.system(code);
            },
        }
    }

    /// False while the attempt to connect goes on.
    fn stands(stream: *const Stream, failure: *status.Failure) status.Error!bool {
        const known = stream.connection.known.load();
        if (known.failed) return failure.system(stream.connection.errorCode());
        return known.determined;
    }

    pub fn finishWriting(stream: *Stream, failure: *status.Failure) status.Error!void {
        if (!stream.transport.canFinishWriting()) return error.Unsupported;
        // Linux would break off the attempt to connect.
        if (!try stream.stands(failure)) return failure.system(platform.sys.not_connected);
        if (stream.connection.known.load().finished) return;
        const mailbox = stream.mailbox.load(.acquire) orelse return stream.finishNow(failure);
        mailbox.outgoing.lock.lock();
        defer mailbox.outgoing.lock.unlock();
        if (try stream.sendRest(mailbox, failure)) return stream.finishNow(failure);
        mailbox.outgoing.finishes = true;
    }

    fn finishNow(stream: *Stream, failure: *status.Failure) status.Error!void {
        if (stream.connection.known.load().finished) return;
        // Linux lets a severed local connection be finished, but not one of TCP.
        const conditions = try stream.transport.conditionsNow(failure);
        if (conditions.severed) return failure.system(platform.sys.not_connected);
        try stream.transport.finishWriting(failure);
        stream.connection.known.add(.{ .finished = true });
    }

    /// What is left of a message moves out of its sender's memory.
    pub fn endLoans(stream: *Stream) void {
        const mailbox = stream.mailbox.load(.acquire) orelse return;
        mailbox.outgoing.lock.lock();
        defer mailbox.outgoing.lock.unlock();
        // Without memory for a copy, the rest is lost.
        mailbox.outgoing.own() catch {};
    }

    // ---- Events. With the library's lock held ----

    /// What the stream keeps itself.
    pub fn kept(stream: *const Stream) events.Kept {
        const mailbox = stream.mailbox.load(.acquire) orelse return .{};
        return mailbox.kept();
    }

    /// Another number after what it keeps has changed.
    pub fn changes(stream: *const Stream) u32 {
        const mailbox = stream.mailbox.load(.acquire) orelse return 0;
        return mailbox.changes();
    }

    /// For messages.
    pub fn needMailbox(stream: *Stream) status.Error!*Mailbox {
        if (stream.mailbox.load(.acquire)) |mailbox| return mailbox;
        const mailbox: *Mailbox = try .create();
        stream.mailbox.store(mailbox, .release);
        return mailbox;
    }

    /// Which of the asked-for events hold now.
    pub fn probe(stream: *Stream, asked: u32, failure: *status.Failure) status.Error!u32 {
        const of_kept = events.message_available | events.data_available | events.end_of_data;
        const now = stream.kept();
        if (asked & ~of_kept == 0 and now.message and !now.rest) return asked & ~events.end_of_data;
        return stream.eventsOf(try stream.transport.conditionsNow(failure), asked, failure);
    }

    /// Which of the asked-for events hold, by what a selector reported. What a message needs is read and sent on the
    /// way.
    pub fn eventsOf(
        stream: *Stream,
        conditions: events.Conditions,
        asked: u32,
        failure: *status.Failure,
    ) status.Error!u32 {
        const known = &stream.connection.known;
        if (!known.load().determined) {
            if (conditions.isEmpty()) return 0;
            try stream.determine(conditions, failure);
        }
        if (conditions.severed) {
            known.add(.{ .ended = true, .severed = true });
        } else if (conditions.ended) {
            known.add(.{ .ended = true });
        }
        var moment: events.Moment = .{ .data = conditions.readable, .space = conditions.writable };
        if (stream.mailbox.load(.acquire)) |mailbox| try stream.moveMessages(mailbox, asked, &moment, failure);
        if (known.load().gone()) {
            // Selectors report the end as readable too.
            moment.data = false;
            if (!known.load().drained and asked & of_unread != 0) {
                moment.data = try stream.hasUnread(failure);
            }
        }
        const now = known.load();
        // Afterwards, for bytes are kept before the end behind them is known.
        moment.kept = stream.kept();
        const result = asked & events.ofStream(now, moment);
        if (conditions.severed and !stream.transport.tellsReasonLater()) try stream.learnReason(failure);
        return result;
    }

    /// Sends what is left of a message, and reads what a message lacks, as far as both can be done now.
    fn moveMessages(
        stream: *Stream,
        mailbox: *Mailbox,
        asked: u32,
        moment: *events.Moment,
        failure: *status.Failure,
    ) status.Error!void {
        const known = &stream.connection.known;
        if (moment.space and mailbox.kept().rest and !known.load().severed) {
            mailbox.outgoing.lock.lock();
            defer mailbox.outgoing.lock.unlock();
            var ignored: status.Failure = .{};
            // What fails now, fails for whoever sends next.
            const is_sent = stream.sendRest(mailbox, &ignored) catch false;
            moment.space = is_sent and (try stream.transport.conditionsNow(failure)).writable;
        }
        const may_read = moment.data or (known.load().gone() and !known.load().drained);
        if (may_read and asked & events.message_available != 0 and !mailbox.kept().message) {
            mailbox.incoming.lock.lock();
            defer mailbox.incoming.lock.unlock();
            moment.data = try stream.fillMessage(mailbox, failure);
        }
    }

    /// Reads until a message is whole, or nothing more is there. Whether bytes may be left in the system. With the
    /// lock of what has come.
    fn fillMessage(stream: *Stream, mailbox: *Mailbox, failure: *status.Failure) status.Error!bool {
        const incoming = &mailbox.incoming;
        defer incoming.settle();
        while (incoming.front() == .incomplete) {
            const count = stream.fill(mailbox, failure) catch |err| {
                // That the connection has failed is an event. What failed besides is told.
                return if (stream.connection.known.load().drained) false else err;
            };
            if (count == 0) return false;
        }
        return true;
    }

    /// Whether bytes of a remote end that has gone are still to be read. It adds `drained` if there are none for
    /// certain.
    pub fn hasUnread(stream: *Stream, failure: *status.Failure) status.Error!bool {
        const mailbox = stream.mailbox.load(.acquire);
        // What a thread has just taken from the system is not where others see it.
        if (mailbox) |one| one.incoming.lock.lock();
        defer if (mailbox) |one| one.incoming.lock.unlock();
        switch (stream.transport.look()) {
            .count => |count| if (count > 0) return true,
            // The end was reported, but the look did not find it: nothing is certain.
            .nothing => return false,
            .refused => |code| return failure.system(code),
            // Nothing can be read any more.
            .not_ours => {},
            .broken => |code| stream.broke(code),
        }
        stream.connection.known.add(.{ .drained = true });
        return false;
    }

    /// Something was reported while the stream was connecting: the attempt has ended.
    fn determine(stream: *Stream, conditions: events.Conditions, failure: *status.Failure) status.Error!void {
        const code = stream.transport.takeError();
        const is_connected = !conditions.severed or stream.transport.hasConnected();
        if (code == 0 and is_connected) return stream.connection.establish();
        // Kept first: the system tells the code once, and the look for bytes may fail.
        stream.keepError(code);
        // Was it established and severed before anybody looked? What arrived in between must not be lost. And a child
        // that shares the socket may have written to it.
        if (stream.transport.isOfWrite(code) or try stream.hasUnread(failure)) {
            return stream.connection.known.add(.{ .determined = true, .ended = true, .severed = true });
        }
        // The code is 0 if another process that shares the socket took it.
        stream.connection.fail(if (code == 0) platform.sys.connection_aborted else code);
    }

    // ---- Why it ended ----

    /// 0 if there is none (yet). With the library's lock held.
    pub fn connectionError(stream: *Stream, failure: *status.Failure) status.Error!i32 {
        _ = try stream.probe(events.of_streams, failure);
        const known = stream.connection.known.load();
        if (known.determined and known.severed and stream.transport.tellsReasonLater()) try stream.learnReason(failure);
        return stream.connection.errorCode();
    }

    /// Asks why it was severed, if that is not known.
    fn learnReason(stream: *Stream, failure: *status.Failure) status.Error!void {
        if (stream.connection.errorCode() != 0) return;
        if (stream.transport.reasonIsRead()) _ = try stream.hasUnread(failure);
        stream.keepError(stream.transport.reasonOfSevering());
    }

    /// Reading has failed for good.
    fn broke(stream: *Stream, code: i32) void {
        stream.keepError(code);
        stream.connection.known.add(.{ .ended = true, .severed = true });
    }

    fn keepError(stream: *Stream, code: i32) void {
        if (!stream.transport.isOfWrite(code)) stream.connection.keepError(code);
    }

    // ---- The rest ----

    pub fn localAddress(stream: *Stream, failure: *status.Failure) status.Error!net.Address {
        return stream.transport.localAddress(failure);
    }

    pub fn watched(stream: *Stream) platform.Descriptor {
        return stream.transport.watched();
    }

    pub fn fileno(stream: *const Stream) status.Error!i64 {
        return stream.transport.fileno();
    }

    /// The coming close gives up what the remote end has not yet read or received. With the library's lock held.
    pub fn prepareAbort(stream: *Stream) void {
        stream.transport.prepareAbort();
    }

    pub fn deinit(stream: *Stream) void {
        const mailbox = stream.mailbox.load(.acquire) orelse return stream.transport.close(&.{});
        stream.transport.close(mailbox.outgoing.rest);
        mailbox.destroy();
    }
};
