//! Pools of a shell script in the place of engines: it ends on end of file, as an engine does.
use super::*;

/// A pool whose engines run `script` with `sh`; the script's directory lives as long as the pool.
struct Lab {
    pool: Pool,
    events: UnboundedReceiver<PoolEvent>,
    directory: PathBuf,
}

impl Lab {
    fn new(n_engines: usize, script: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("pool-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory).expect("the temporary directory is writable");
        // The shell runs it: a program that this process has open for writing cannot be run, and
        // a test beside this one may start a process, which has it open, too, for that moment.
        std::fs::write(directory.join("engine"), script).expect("the directory is ours");
        let (pool, events) = start(PoolConfig {
            exe: "/bin/sh".into(),
            file: directory.join("ipcontroller-engine.json"),
            cwd: directory.clone(),
            n_engines,
            env: Vec::new(),
            args: Vec::new(),
            log: None,
        });
        Self { pool, events, directory }
    }

    async fn next(&mut self) -> PoolEvent {
        let next = tokio::time::timeout(Duration::from_secs(10), self.events.recv());
        next.await.expect("an event within ten seconds").expect("the pool lives")
    }

    async fn started(&mut self) -> (String, u32) {
        match self.next().await {
            PoolEvent::Started { uuid, pid } => (uuid, pid),
            other => panic!("{other:?} instead of a start"),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A leftover in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[tokio::test]
async fn a_killed_engine_is_reported_with_its_signal_and_replaced() {
    let mut lab = Lab::new(2, "read line");
    let (uuid, pid) = lab.started().await;
    lab.started().await;
    process::signal(pid, Signal::Kill).expect("it is ours");
    let cause = "killed by signal 9".to_owned();
    assert_eq!(lab.next().await, PoolEvent::Died { uuid, cause, replaced: true });
    let (_, replacement) = lab.started().await;
    lab.pool.stop();
    for _ in 0..2 {
        assert!(matches!(lab.next().await, PoolEvent::Left { .. }));
    }
    assert_eq!(lab.next().await, PoolEvent::Stopped);
    assert!(!process::exists(replacement));
}

#[tokio::test]
async fn engines_that_die_at_once_make_the_pool_give_up_loudly() {
    let mut lab = Lab::new(1, "exit 3");
    for _ in 0..RESTARTS_MAX {
        lab.started().await;
        assert!(matches!(lab.next().await, PoolEvent::Died { replaced: true, .. }));
    }
    lab.started().await;
    assert!(matches!(lab.next().await, PoolEvent::Died { replaced: false, .. }));
    let PoolEvent::GaveUp { cause } = lab.next().await else { panic!("it does not give up") };
    assert!(cause.ends_with("the last one ended with exit code 3"), "{cause}");
}

#[tokio::test]
async fn an_engine_that_does_not_listen_is_killed() {
    let mut lab = Lab::new(1, "trap '' TERM; while :; do sleep 1; done");
    let (uuid, pid) = lab.started().await;
    lab.pool.stop();
    assert_eq!(lab.next().await, PoolEvent::Left { uuid });
    assert_eq!(lab.next().await, PoolEvent::Stopped);
    assert!(!process::exists(pid));
}

#[tokio::test]
async fn a_smaller_pool_keeps_the_oldest_and_a_shut_down_engine_stays_away() {
    let mut lab = Lab::new(2, "read line");
    lab.started().await;
    let (youngest, _) = lab.started().await;
    lab.pool.resize(1);
    assert_eq!(lab.next().await, PoolEvent::Left { uuid: youngest });
    lab.pool.resize(2);
    lab.started().await;
    lab.pool.stop();
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said_once() {
    let (pool, mut events) = start(PoolConfig {
        exe: "/nowhere/prust".into(),
        file: "/nowhere/ipcontroller-engine.json".into(),
        cwd: "/".into(),
        n_engines: 3,
        env: Vec::new(),
        args: Vec::new(),
        log: None,
    });
    let Some(PoolEvent::GaveUp { cause }) = events.recv().await else { panic!("it goes on") };
    assert!(cause.starts_with("cannot start /nowhere/prust: "), "{cause}");
    pool.stop();
    assert_eq!(events.recv().await, Some(PoolEvent::Stopped));
    assert_eq!(events.recv().await, None);
}

#[test]
fn the_limit_counts_only_the_latest_period() {
    let mut restarts = Restarts::default();
    let start = Instant::now();
    assert!((0..RESTARTS_MAX).all(|_| restarts.may_start(start, RESTARTS_MAX)));
    assert!(!restarts.may_start(start + RESTARTS_PERIOD / 2, RESTARTS_MAX));
    assert!(restarts.may_start(start + RESTARTS_PERIOD, RESTARTS_MAX));
    assert_eq!((restarts_max(1), restarts_max(16)), (RESTARTS_MAX, 32));
}
