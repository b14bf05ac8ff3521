//! Kernels to test bsd_rules.zig and kqueue_poll.zig with, on any system: what macOS and FreeBSD make of descriptors
//! that are described in a few words, by XNU's and FreeBSD's sources. Nothing here sleeps; a clock is put forward
//! instead.

const std = @import("std");
const rules = @import("../../posix/bsd_rules.zig");

/// What the kernel knows of a descriptor.
pub const File = union(enum) {
    closed,
    /// With something to report, or without.
    kqueue: bool,
    /// With clients, or without.
    server: bool,
    stream: Stream,

    pub const Stream = struct {
        unread: bool = false,
        /// The remote end sends no more.
        ended: bool = false,
        /// How many of `buffer_size` bytes are free.
        room: i64 = buffer_size,
        /// This end can send no more.
        shut: bool = false,
    };

    pub const buffer_size = 8192;

    fn isReadable(file: File) bool {
        return switch (file) {
            .closed => false,
            .kqueue, .server => |has| has,
            .stream => |stream| stream.unread or stream.ended,
        };
    }
};

/// XNU's poll_nocancel and poll_callback (sys_generic.c): a kqueue of its own, with EVFILT_READ and EVFILT_WRITE.
const Macos = struct {
    file: File,

    pub fn look(kernel: Macos, events: i16) error{}!i16 {
        const file = kernel.file;
        // kevent_register fails: for EVFILT_WRITE of a kqueue (kqueue_kqfilter) too.
        if (file == .closed or (file == .kqueue and events & rules.out != 0)) return rules.nval;
        var told: i16 = 0;
        if (events & rules.in != 0 and file.isReadable()) {
            told |= rules.in;
            if (file == .stream and file.stream.ended) told |= rules.hup;
        }
        if (events & rules.out != 0 and file == .stream) {
            if (file.stream.shut) told |= rules.hup;
            if (told & rules.hup == 0 and file.stream.room > 0) told |= rules.out;
        }
        return told;
    }
};

/// FreeBSD's kqueue_poll (kern_event.c), which looks at POLLIN alone, and sopoll_generic (uipc_socket.c).
const Freebsd = struct {
    file: File,

    pub fn look(kernel: Freebsd, events: i16) error{}!i16 {
        const file = kernel.file;
        if (file == .closed) return rules.nval;
        var told: i16 = if (file.isReadable()) rules.in else 0;
        if (file == .stream) {
            const stream = file.stream;
            if (stream.ended) told |= rules.rdhup;
            if (stream.ended and stream.shut) {
                told |= rules.hup;
            } else if (stream.shut or stream.room > 0) {
                told |= rules.out;
            }
        }
        return told & (events | rules.hup);
    }
};

/// What bsd.zig's pollNow tells of a file.
pub fn conditions(comptime system: rules.System, asked: i16, file: File) i16 {
    const kernel: if (system == .macos) Macos else Freebsd = .{ .file = file };
    return rules.conditions(system, asked, kernel) catch unreachable;
}

/// Something that comes to pass while a thread sleeps.
pub const Happening = struct { fd: i32, file: File };

/// What kqueue_poll.zig takes of sys.zig.
pub fn System(comptime system: rules.System) type {
    return struct {
        const Self = @This();

        pub const Descriptor = i32;
        pub const pollfd = extern struct { fd: i32, events: i16, revents: i16 = 0 };
        pub const POLL = struct {
            pub const IN = rules.in;
            pub const OUT = rules.out;
            pub const NVAL = rules.nval;
        };
        pub const POLLRDHUP = rules.rdhup;
        pub const allocator = std.testing.allocator;

        const E = enum(i32) { INTR = 4, BADF = 9, DEADLK = 11, NOMEM = 12, INVAL = 22, MFILE = 24 };

        /// The result for a thread that would sleep for ever.
        pub const forever = resultOf(.DEADLK);

        pub fn codeOf(e: E) i32 {
            return @backingInt(e);
        }

        pub fn resultOf(e: E) isize {
            return -@as(isize, codeOf(e));
        }

        var files: [files_max]File = undefined;
        var watches: [2 * files_max]Watch = undefined;
        var watches_count: usize = 0;
        var happenings: []const Happening = &.{};
        var now_ns: u64 = 0;
        /// How often a kqueue was waited for, and how often a thread paused.
        pub var waits: usize = 0;
        pub var pauses: usize = 0;
        /// How many looks still fail for want of memory.
        pub var looks_refused: usize = 0;
        pub var has_kqueues = true;

        const files_max = 8;
        /// More waits than any test has happenings.
        const waits_max = 50;

        pub fn begin(start: []const Happening, then: []const Happening) void {
            files = @splat(.closed);
            for (start) |one| files[@intCast(one.fd)] = one.file;
            happenings = then;
            watches_count = 0;
            now_ns = 0;
            waits = 0;
            pauses = 0;
            looks_refused = 0;
            has_kqueues = true;
        }

        fn happen() bool {
            if (happenings.len == 0) return false;
            const fd: usize = @intCast(happenings[0].fd);
            files[fd] = happenings[0].file;
            happenings = happenings[1..];
            // knote(): whatever arrives wakes the watches that it is for.
            for (watches[0..watches_count]) |*watch| {
                if (watch.ident == fd and watch.fires() != null) watch.active = true;
            }
            return true;
        }

        pub fn monotonicNs() u64 {
            return now_ns;
        }

        pub fn close(_: Descriptor) void {}

        pub fn pollNow(entry: *pollfd) isize {
            if (looks_refused > 0) {
                looks_refused -= 1;
                return resultOf(.NOMEM);
            }
            entry.revents = conditions(system, entry.events, files[@intCast(entry.fd)]);
            return @intFromBool(entry.revents != 0);
        }

        /// A knote.
        const Watch = struct {
            ident: usize,
            filter: i16,
            clear: bool,
            lowat: ?i64,
            active: bool,

            /// The flags of its report, if it has one: filt_soread and filt_sowrite.
            fn fires(watch: Watch) ?u16 {
                const file = files[watch.ident];
                if (watch.filter == kevents.EVFILT.READ) {
                    if (!file.isReadable()) return null;
                    return if (file == .stream and file.stream.ended) kevents.EV.EOF else 0;
                }
                const stream = file.stream;
                if (stream.shut) return kevents.EV.EOF;
                const lowat = watch.lowat orelse 1;
                return if (stream.room >= if (system == .macos) @min(lowat, File.buffer_size) else lowat) 0 else null;
            }
        };

        fn find(ident: usize, filter: i16) ?*Watch {
            for (watches[0..watches_count]) |*watch| if (watch.ident == ident and watch.filter == filter) return watch;
            return null;
        }

        fn add(wanted: kevents.Kevent) ?E {
            const file = files[wanted.ident];
            if (file == .closed) return .BADF;
            if (file == .kqueue and wanted.filter != kevents.EVFILT.READ) return .INVAL;
            const watch = find(wanted.ident, wanted.filter) orelse made: {
                watches_count += 1;
                watches[watches_count - 1] = .{
                    .ident = wanted.ident,
                    .filter = wanted.filter,
                    .clear = wanted.flags & kevents.EV.CLEAR != 0,
                    .lowat = null,
                    .active = false,
                };
                break :made &watches[watches_count - 1];
            };
            // The flags of one that is there already stay.
            watch.lowat = if (wanted.fflags & kevents.NOTE.LOWAT != 0) wanted.data else null;
            if (watch.fires() != null) watch.active = true;
            return null;
        }

        pub const kevents = struct {
            pub const EV = struct {
                pub const ADD = 0x1;
                pub const CLEAR = 0x20;
                pub const RECEIPT = 0x40;
                pub const ERROR = 0x4000;
                pub const EOF = 0x8000;
            };
            pub const EVFILT = struct {
                pub const READ = -1;
                pub const WRITE = -2;
            };
            pub const NOTE = struct {
                pub const LOWAT = 1;
            };
            pub const Kevent = struct { ident: usize, filter: i16, flags: u16, fflags: u32, data: i64, udata: usize };

            pub fn make() isize {
                watches_count = 0;
                return if (has_kqueues) files_max else resultOf(.MFILE);
            }

            pub fn call(_: Descriptor, changes: []const Kevent, reports: []Kevent, timeout_ns: ?u64) isize {
                for (changes, 0..) |wanted, index| {
                    reports[index] = wanted;
                    reports[index].flags |= EV.ERROR;
                    reports[index].data = if (add(wanted)) |e| codeOf(e) else 0;
                }
                if (changes.len > 0) return @intCast(changes.len);
                waits += 1;
                while (true) {
                    const count = scan(reports);
                    if (count > 0 or timeout_ns == 0) return @intCast(count);
                    if (happen()) continue;
                    if (waits > waits_max) return forever;
                    now_ns += timeout_ns orelse return forever;
                    return 0;
                }
            }

            fn scan(reports: []Kevent) usize {
                var count: usize = 0;
                for (watches[0..watches_count]) |*watch| {
                    if (!watch.active) continue;
                    const told = watch.fires();
                    watch.active = told != null and !watch.clear;
                    if (told == null) continue;
                    reports[count] = .{
                        .ident = watch.ident,
                        .filter = watch.filter,
                        .flags = told.? | (if (watch.clear) @as(u16, EV.CLEAR) else 0),
                        .fflags = 0,
                        .data = 0,
                        .udata = 0,
                    };
                    count += 1;
                }
                return count;
            }

            pub fn sleep(duration_ns: u64) isize {
                pauses += 1;
                now_ns += duration_ns;
                _ = happen();
                return 0;
            }
        };
    };
}
