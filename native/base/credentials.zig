//! Who is at the other end of a local stream.

pub const Credentials = struct {
    user: i64 = unknown,
    group: i64 = unknown,
    process: i64 = unknown,
    /// The text of a Windows SID. None has none.
    security: [security_max]u8 = undefined,
    security_size: usize = 0,

    /// A number that the system does not tell.
    pub const unknown = -1;
    /// S-1-, 48 bits, in hexadecimal if they are many, and 15 times 32 bits with a hyphen before.
    pub const security_max = 4 + 14 + 15 * 11;

    /// Of a user or a group. Systems have the highest number for none.
    pub fn idOf(number: u32) i64 {
        return if (number == 0xffff_ffff) unknown else number;
    }

    /// 0 is no process: one that this process can't see, for example, of another PID namespace.
    pub fn processOf(number: i64) i64 {
        return if (number > 0) number else unknown;
    }
};
