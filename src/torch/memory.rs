//! How much memory a stretch of work needed at its peak.
#![expect(unsafe_code, reason = "calls the shim")]

use super::{Device, ffi};

/// Tells the allocator to keep the blocks that a network's steps free and ask for again. Call once,
/// before the first tensor.
pub fn keep_memory() {
    // SAFETY: no pointers; `mallopt` may be called at any time.
    unsafe { ffi::unsee_keep_memory() }
}

/// Bytes that are free where a device keeps its tensors; 0 where that cannot be told.
pub fn free_memory(device: Device) -> u64 {
    if device.is_cuda() {
        let mut free = 0;
        // SAFETY: room for one number.
        let known =
            ffi::check(unsafe { ffi::unsee_free_device_memory(device.index(), &raw mut free) });
        return if known.is_ok() { free as u64 } else { 0 };
    }
    let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
        * 1024
}

/// Peaks of memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Peak {
    /// Resident memory of the process.
    pub host: u64,
    /// Memory allocated on the CUDA device, 0 on a CPU.
    pub device: u64,
}

impl Peak {
    /// Starts measuring again.
    pub fn reset(device: Device) {
        // Linux: writing 5 sets VmHWM back to the memory in use now. Where /proc is read-only the
        // peak of the whole process is reported, which is an upper bound.
        drop(
            fs_err::OpenOptions::new()
                .write(true)
                .open("/proc/self/clear_refs")
                .and_then(|mut file| std::io::Write::write_all(&mut file, b"5")),
        );
        if device.is_cuda() {
            // SAFETY: no pointers.
            drop(ffi::check(unsafe { ffi::unsee_reset_device_peak(device.index()) }));
        }
    }

    /// The peaks since the last reset.
    pub fn read(device: Device) -> Self {
        let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
        let host = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or(0)
            * 1024;
        let mut stats = [0_i64; 4];
        // SAFETY: room for four numbers.
        let known = device.is_cuda()
            && ffi::check(unsafe { ffi::unsee_device_memory(device.index(), stats.as_mut_ptr()) })
                .is_ok();
        Self { host, device: if known { stats[1] as u64 } else { 0 } }
    }

    /// Where a device keeps its tensors: its own memory, or the host's.
    pub fn on(self, device: Device) -> u64 {
        if device.is_cuda() { self.device } else { self.host }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { host: self.host.max(other.host), device: self.device.max(other.device) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_peak_sees_an_allocation() {
        Peak::reset(Device::CPU);
        let before = Peak::read(Device::CPU).host;
        let block = vec![1_u8; 64 << 20];
        assert!(block.iter().map(|&b| u64::from(b)).sum::<u64>() > 0);
        drop(block);
        assert!(Peak::read(Device::CPU).on(Device::CPU) >= before + (48 << 20));
        assert!(free_memory(Device::CPU) > 64 << 20);
    }
}
