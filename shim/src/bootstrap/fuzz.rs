//! Fuzzing: what containerd says to `start`.
#![forbid(unsafe_code)]

use super::*;
use containerd_shim_protos::bootstrap_api::Extension;

fn words() -> Words {
    let words = [
        "-namespace",
        "k8s.io",
        "-id",
        "web1",
        "-address",
        "/run/c.sock",
        "start",
    ];
    Words::parse(words.map(OsString::from).into_iter()).unwrap_or_default()
}

/// What comes by stdin, from a containerd of each kind; the answer is in its dialect.
pub fn start(input: &[u8]) {
    let words = words();
    for newest in [None, Some("3"), Some("-1"), Some("x")] {
        let env = |name: &str| (name == "MAX_SHIM_VERSION").then(|| newest.map(String::from));
        let Ok(ask) = Ask::read(&words, input, |name| env(name).flatten()) else {
            continue;
        };
        let path = socket_path(&ask.socket_dir, &ask.grpc, &words.namespace, "group");
        assert!(path.starts_with(&ask.socket_dir) && path.file_name().is_some());
        let answer = ask.answer("unix:///s").unwrap_or_default();
        match ask.dialect {
            Dialect::Plain => assert_eq!(answer, b"unix:///s"),
            Dialect::Json(_) => assert!(serde_json::from_slice::<Value>(&answer).is_ok()),
            Dialect::Protobuf => assert!(BootstrapResult::parse_from_bytes(&answer).is_ok()),
        }
    }
}

/// What the newest containerd says.
pub fn seed(options: &[Any]) -> Vec<u8> {
    let words = words();
    let mut params = BootstrapParams::new();
    params.instance_id = words.id;
    params.namespace = words.namespace;
    params.containerd_grpc_address = "/run/c.sock".into();
    params.extensions = options
        .iter()
        .map(|any| {
            let mut one = Extension::new();
            one.value = Some(any.clone()).into();
            one
        })
        .collect();
    params.write_to_bytes().unwrap_or_default()
}
