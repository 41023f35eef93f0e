use std::path::PathBuf;

use super::{ClientCertificate, Clients, ListenerSettings, Reloaded, Terminator};
use crate::tls::TlsError;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.identity("server");
        files.identity("ca");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn identity(&self, name: &str) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }

    fn settings(&self, clients: Option<ClientCertificate>) -> ListenerSettings {
        ListenerSettings {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            clients: clients.map(|certificate| Clients { ca: self.path("ca.pem"), certificate }),
        }
    }
}

/// B49: no early data is offered.
#[test]
fn a_session_is_resumed_only_where_it_carries_no_identity() {
    let files = Files::new();
    let anonymous = Terminator::load(files.settings(None)).unwrap();
    let config = &anonymous.current.load_full().unwrap().config;
    assert!(config.ticketer.enabled() && config.send_tls13_tickets > 0);
    assert_eq!(config.max_early_data_size, 0);
    assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    for clients in [ClientCertificate::Required, ClientCertificate::Optional] {
        let mutual = Terminator::load(files.settings(Some(clients))).unwrap();
        let config = &mutual.current.load_full().unwrap().config;
        assert!(!config.ticketer.enabled() && config.send_tls13_tickets == 0);
        assert!(!config.session_storage.can_cache());
        assert_eq!(config.max_early_data_size, 0);
    }
}

#[test]
fn files_are_used_again_only_when_their_contents_are_good_and_others() {
    let files = Files::new();
    let terminator = Terminator::load(files.settings(Some(ClientCertificate::Required))).unwrap();
    let trust = super::Trust(terminator.current.load_full().unwrap().trusted.subscribe());
    assert_eq!(terminator.reload().unwrap(), Reloaded::Unchanged);
    files.identity("server");
    assert_eq!(terminator.reload().unwrap(), Reloaded::Certificate);
    assert!(!trust.is_over(), "the same authorities vouch for callers");

    let before = terminator.current.load_full().unwrap().fingerprint;
    std::fs::write(files.path("server.pem"), "canary").unwrap();
    let error = terminator.reload().unwrap_err();
    assert!(matches!(error, TlsError::Content { .. }));
    assert!(error.to_string().contains("server.pem") && !format!("{error:?}").contains("canary"), "{error:?}");
    assert_eq!(terminator.current.load_full().unwrap().fingerprint, before, "what was good stays");

    files.identity("server");
    files.identity("ca");
    assert_eq!(terminator.reload().unwrap(), Reloaded::Authorities);
    assert!(trust.is_over());
}

#[test]
fn a_mistake_names_its_file() {
    let files = Files::new();
    let settings = || files.settings(Some(ClientCertificate::Optional));
    for (settings, file) in [
        (ListenerSettings { certificate: files.path("none.pem"), ..settings() }, "none.pem"),
        (ListenerSettings { certificate: files.path("server.key"), ..settings() }, "server.key"),
        (ListenerSettings { key: files.path("ca.key"), ..settings() }, "ca.key"),
        (
            ListenerSettings {
                clients: Some(Clients { ca: files.path("server.key"), certificate: ClientCertificate::Required }),
                ..settings()
            },
            "server.key",
        ),
    ] {
        let error = Terminator::load(settings).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
    }
}
