//! What the system lists of processes and memory, read from `/proc` and the control groups. Changes
//! nothing.

/// A process as the system lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub pid: u32,
    pub group: u32,
    /// In ticks of the clock since the system started.
    pub started: u64,
    /// Processor time used by all its threads, in ticks.
    pub cpu: u64,
}

impl Listed {
    /// Whether this process began after `other`. Within one tick, which is many processes long, the
    /// order of their ids tells.
    pub fn began_after(&self, other: &Self) -> bool {
        (self.started, self.pid) > (other.started, other.pid)
    }
}

/// What the system lists of a process, if it exists.
pub fn listed(pid: u32) -> Option<Listed> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let group = u32::try_from(number(2)?).ok()?;
    Some(Listed { pid, group, started: number(19)?, cpu: number(11)? + number(12)? })
}

/// Every process of a group.
pub fn of_group(group: u32) -> Vec<Listed> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(listed)
        .filter(|process| process.group == group)
        .collect()
}

/// How many processes the system has killed because memory ran out; 0 where it does not say.
pub fn oom_kills() -> u64 {
    let vmstat = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = vmstat.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// The machine's memory, or what the limit of our control group leaves of it.
pub fn memory_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|total| total.split_whitespace().next()?.parse::<u64>().ok());
    let machine = kilobytes.map_or(8 << 30, |kilobytes| kilobytes << 10);
    group_memory_limit().map_or(machine, |limit| limit.min(machine))
}

/// The memory limit of our control group, version 2 or 1.
fn group_memory_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let file = if controllers.is_empty() {
            format!("/sys/fs/cgroup{path}/memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes")
        } else {
            return None;
        };
        std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_one_tick_begin_in_the_order_of_their_ids() {
        let process = |pid, started| Listed { pid, group: 1, started, cpu: 0 };
        let snapshot = process(20, 100);
        assert!(!process(19, 100).began_after(&snapshot), "started by an earlier cell");
        assert!(!snapshot.began_after(&snapshot));
        assert!(process(21, 100).began_after(&snapshot), "started by the cell");
        assert!(process(7, 101).began_after(&snapshot), "ids begin again");
    }

    #[test]
    fn a_process_is_listed_with_its_group_and_start() {
        let own = listed(std::process::id()).expect("we exist");
        assert!(own.started > 0);
        assert!(of_group(own.group).iter().any(|process| process.pid == own.pid));
        assert_eq!(listed(u32::MAX), None);
        assert!(memory_bytes() > 1 << 20);
    }
}
