//! Counts and sizes that cannot be mistaken for each other.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// None of it.
            pub const ZERO: $name = $name(0);

            /// The bare number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The difference, zero where it would be negative.
            pub const fn saturating_sub(self, other: $name) -> $name {
                $name(self.0.saturating_sub(other.0))
            }
        }

        impl Add for $name {
            type Output = $name;
            fn add(self, other: $name) -> $name {
                $name(self.0 + other.0)
            }
        }

        impl Sub for $name {
            type Output = $name;
            fn sub(self, other: $name) -> $name {
                $name(self.0 - other.0)
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: $name) {
                self.0 += other.0;
            }
        }

        impl SubAssign for $name {
            fn sub_assign(&mut self, other: $name) {
                self.0 -= other.0;
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = $name>>(iter: I) -> $name {
                $name(iter.map(|quantity| quantity.0).sum())
            }
        }
    };
}

quantity! {
    /// A number of items: spans, data points or log records.
    ItemCount
}

quantity! {
    /// A number of bytes. What is counted (encoded, before or after compression) is said where it is used.
    ByteSize
}

impl ByteSize {
    /// `count` KiB.
    pub const fn kib(count: u64) -> ByteSize {
        ByteSize(count << 10)
    }

    /// `count` MiB.
    pub const fn mib(count: u64) -> ByteSize {
        ByteSize(count << 20)
    }

    /// As an index or a capacity on this machine; saturates on 32-bit targets.
    pub const fn as_usize(self) -> usize {
        if self.0 > usize::MAX as u64 { usize::MAX } else { self.0 as usize }
    }
}

impl From<usize> for ByteSize {
    fn from(bytes: usize) -> ByteSize {
        ByteSize(bytes as u64)
    }
}

impl From<usize> for ItemCount {
    fn from(items: usize) -> ItemCount {
        ItemCount(items as u64)
    }
}

impl fmt::Display for ItemCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ByteSize {
    /// Exact multiples of a MiB or KiB are written so, everything else in bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}
