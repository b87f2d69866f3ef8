//! Tests of connection files: what is read, what is refused, what is written back.
use super::*;

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("prust-files-{}-{name}", std::process::id()));
    fs::create_dir_all(&dir).expect("the temporary directory is writable");
    dir
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file was written").permissions().mode() & 0o777
}

#[test]
fn a_port_of_zero_is_filled_in_and_written_back_private() {
    let dir = scratch("port-0");
    let path = dir.join("kernel.json");
    let text = r#"{"shell_port": 0, "iopub_port": 7, "key": "k", "jupyter_session": "a.ipynb"}"#;
    fs::write(&path, text).expect("writable");
    let mut file = KernelFile::read(&path).expect("defaults fill the rest");
    assert_eq!(file.endpoint(Channel::Shell), "tcp://127.0.0.1:0");
    let bound: Vec<Vec<String>> =
        (1..=5).map(|n| vec![format!("tcp://127.0.0.1:{}", 5000 + n)]).collect();
    file.fill_ports(&path, &bound).expect("writable");
    let written = KernelFile::read(&path).expect("it was written by us");
    assert_eq!(written, file);
    assert_eq!((written.shell_port, written.iopub_port, written.hb_port), (5001, 7, 5005));
    assert_eq!(written.others["jupyter_session"], "a.ipynb");
    assert_eq!(mode(&path), 0o600);
    fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
fn ipc_addresses_are_made_of_path_and_number() {
    let dir = scratch("ipc");
    let ip = dir.join("kernel-ipc").display().to_string();
    fs::write(format!("{ip}-1"), "").expect("writable");
    let text = format!(r#"{{"transport": "ipc", "ip": "{ip}", "hb_port": 2}}"#);
    let mut file: KernelFile = serde_json::from_str(&text).expect("it is JSON");
    file.choose_ipc_ports();
    assert_eq!(file.endpoint(Channel::Shell), format!("ipc://{ip}-3"));
    assert_eq!(file.endpoint(Channel::Control), format!("ipc://{ip}-6"));
    assert_eq!(file.endpoint(Channel::Heartbeat), format!("ipc://{ip}-2"));
    fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
fn bad_files_are_errors_that_name_the_file() {
    let dir = scratch("bad");
    let path = dir.join("kernel.json");
    let missing = KernelFile::read(&path).expect_err("there is none");
    assert!(missing.to_string().contains("kernel.json"), "{missing}");
    for (text, expect) in [
        ("{", "understand"),
        ("[]", "understand"),
        (r#"{"shell_port": 70000}"#, "understand"),
        (r#"{"signature_scheme": "hmac-md5"}"#, "hmac-md5"),
    ] {
        fs::write(&path, text).expect("writable");
        let error = KernelFile::read(&path).expect_err(text).to_string();
        assert!(error.contains(expect) && error.contains("kernel.json"), "{error}");
    }
    fs::remove_dir_all(dir).expect("it is ours");
}

const ENGINE: &str = r#"{"ssh": "", "interface": "tcp://*", "registration": 1, "control": 2,
    "mux": 3, "task": 4, "iopub": 5, "broadcast": [6, 7], "hb_ping": 8, "hb_pong": 9, "key": "k",
    "curve_serverkey": null, "location": "elsewhere", "pack": "orjson", "unpack": "orjson",
    "signature_scheme": "hmac-sha256", "more": 1}"#;

#[test]
fn a_file_of_the_stock_controller_is_read_and_kept() {
    let file = EngineFile::from_text(ENGINE).expect("it is what ipcontroller writes");
    assert_eq!(file.broadcast, [6, 7]);
    assert_eq!(file.endpoint(file.hb_pong), "tcp://elsewhere:9");
    let text = serde_json::to_string(&file).expect("plain fields");
    assert_eq!(EngineFile::from_text(&text).expect("written by us"), file);
    assert!(text.contains(r#""curve_serverkey":null"#) && text.contains(r#""more":1"#));
}

#[test]
fn what_we_cannot_speak_is_refused() {
    for (from, to, expect) in [
        (r#""unpack": "orjson""#, r#""unpack": "pickle""#, "pickle"),
        ("hmac-sha256", "hmac-sha1", "hmac-sha1"),
        (r#""curve_serverkey": null"#, r#""curve_serverkey": "x""#, "curve_serverkey"),
    ] {
        let error = EngineFile::from_text(&ENGINE.replace(from, to)).expect_err(expect);
        assert!(error.to_string().contains(expect), "{error}");
    }
}

#[test]
fn files_lie_where_ipyparallel_looks_for_them() {
    let profile = profile_dir(Path::new("/home/me/.ipython"), "default");
    assert_eq!(
        client_file_path(&profile, ""),
        Path::new("/home/me/.ipython/profile_default/security/ipcontroller-client.json")
    );
    assert_eq!(
        engine_file_path(&profile, "lab").file_name(),
        Some("ipcontroller-lab-engine.json".as_ref())
    );
}
