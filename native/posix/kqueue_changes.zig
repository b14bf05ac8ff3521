//! How kqueue(2) is told what to watch. It is given the kernel, so that its tests run everywhere, over kernels that are
//! stood in for.

const std = @import("std");
const events = @import("../base/events.zig");

/// As both systems have it.
const Descriptor = c_int;

/// `kernel` is kevents of bsd.zig, or has the names of it that are used here.
pub fn Of(comptime kernel: type) type {
    return struct {
        const EV = kernel.EV;
        const EVFILT = kernel.EVFILT;
        const Kevent = kernel.Kevent;

        pub fn change(ident: usize, filter: i16, flags: u16, handle: i64) Kevent {
            return .{
                .ident = ident,
                .filter = filter,
                .flags = flags | EV.RECEIPT,
                .fflags = 0,
                .data = 0,
                .udata = @bitCast(@as(isize, @intCast(handle))),
            };
        }

        /// The system's code in what EV_RECEIPT gives for a change, 0 if it was made.
        pub fn codeIn(receipt: Kevent) i32 {
            return if (receipt.flags & EV.ERROR != 0) @intCast(receipt.data) else 0;
        }

        /// More than the size of any buffer. macOS takes it for the size of the buffer.
        const lowat_max = std.math.maxInt(i32);

        /// How a socket's two filters watch it: for what they are for, or, with EV_CLEAR, for the end alone.
        pub const Watch = struct {
            read: Way,
            write: Way,

            const Way = enum { no, level, edge };

            pub fn of(interest: events.Interest) Watch {
                return .{
                    .read = if (interest.readable) .level else if (interest.ended) .edge else .no,
                    .write = if (interest.writable) .level else if (interest.severed) .edge else .no,
                };
            }

            /// The changes that make its watches.
            pub fn changes(watch: Watch, descriptor: Descriptor, handle: i64, room: []Kevent) []const Kevent {
                const ident: usize = @intCast(descriptor);
                var count: usize = 0;
                for ([_]i16{ EVFILT.READ, EVFILT.WRITE }, [_]Way{ watch.read, watch.write }) |filter, way| {
                    if (way == .no) continue;
                    room[count] = change(ident, filter, if (way == .edge) EV.ADD | EV.CLEAR else EV.ADD, handle);
                    if (way == .edge and filter == EVFILT.WRITE) {
                        room[count].fflags = kernel.NOTE.LOWAT;
                        room[count].data = lowat_max;
                    }
                    count += 1;
                }
                return room[0..count];
            }
        };

        /// How many changes one call of `make` makes at the most.
        pub const changes_max = 4;

        /// Makes all changes, even if some fail, and returns the negated code of the first that failed. Deleting what
        /// is not there is no failure.
        pub fn make(fd: Descriptor, changes: []const Kevent) isize {
            var receipts: [changes_max]Kevent = undefined;
            const result = kernel.call(fd, changes, receipts[0..changes.len], 0);
            if (result < 0) return result;
            for (changes[0..@intCast(result)], receipts[0..@intCast(result)]) |made, receipt| {
                if (made.flags & EV.DELETE == 0 and codeIn(receipt) != 0) return -@as(isize, codeIn(receipt));
            }
            return 0;
        }

        /// The changes that take a socket's watches away.
        pub fn deletes(descriptor: Descriptor) [2]Kevent {
            const ident: usize = @intCast(descriptor);
            return .{ change(ident, EVFILT.READ, EV.DELETE, 0), change(ident, EVFILT.WRITE, EV.DELETE, 0) };
        }
    };
}
