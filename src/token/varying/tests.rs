//! Cells that formulas tell apart: which are one, how many there may be, and how long they last.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::advance;

use super::{CellUnavailable, IDLE, MOST};
use crate::fetch::fake::Fake;
use crate::formula::{Activation, Formula};
use crate::metrics::Metrics;
use crate::name::Name;
use crate::token::{Cell, ExternalCredential, Flow, MintFailureKind, Minters, Settings, Text};

fn formula(text: &str) -> Text {
    Text::Formula(Arc::new(Formula::compile(text).unwrap()))
}

/// The scope is the caller's name.
fn settings(url: http::Uri) -> Settings {
    let mut settings = Settings::sample(url);
    settings.request_mut().unwrap().scope = Some(formula("caller.name"));
    settings
}

fn nowhere() -> http::Uri {
    "http://127.0.0.1:1/token".parse().unwrap()
}

fn minters() -> Minters {
    Minters::new(Handle::current(), Metrics::default())
}

fn cell(credential: &ExternalCredential, caller: &str) -> Result<Arc<Cell>, CellUnavailable> {
    let callers = [Name::parse(caller).unwrap()];
    let activation = Activation { callers: &callers, ..Activation::default() };
    credential.principal(&callers).unwrap().cell(&activation).map(Option::unwrap)
}

#[tokio::test(start_paused = true)]
async fn equal_values_share_a_cell_and_different_ones_do_not() {
    let mut minters = minters();
    let first = minters.external_credential(&settings(nowhere()));
    let mut other = settings(nowhere());
    other.name = Name::parse("other").unwrap();
    let second = minters.external_credential(&other);
    assert!(first.principal(&[]).unwrap().fixed_cell().is_none());
    let a = cell(&first, "a").unwrap();
    assert!(Arc::ptr_eq(&a, &cell(&first, "a").unwrap()));
    assert!(!Arc::ptr_eq(&a, &cell(&first, "b").unwrap()));
    assert!(Arc::ptr_eq(&a, &cell(&second, "a").unwrap()), "another credential asks for the same");
    let mut literal = settings(nowhere());
    literal.request_mut().unwrap().scope = Some(Text::Literal("a".to_owned()));
    let literal = minters.external_credential(&literal);
    assert!(Arc::ptr_eq(&a, literal.principal(&[]).unwrap().fixed_cell().unwrap()), "so does a literal");
}

#[tokio::test(start_paused = true)]
async fn the_value_that_was_not_met_for_longest_gives_way_once_it_is_idle() {
    let mut minters = minters();
    let credential = minters.external_credential(&settings(nowhere()));
    let mut cells = Vec::new();
    for number in 0..MOST {
        cells.push(Arc::downgrade(&cell(&credential, &format!("c{number}")).unwrap()));
    }
    advance(Duration::from_secs(20)).await;
    let Err(CellUnavailable::TooManyValues { retry_after }) = cell(&credential, "one_more") else {
        panic!("all are in use");
    };
    assert_eq!(retry_after, IDLE - Duration::from_secs(20));
    cell(&credential, "c0").unwrap();
    advance(retry_after).await;
    cell(&credential, "one_more").unwrap();
    assert!(cells[0].upgrade().is_some(), "it was met again");
    assert_eq!(cells.iter().filter(|cell| cell.upgrade().is_none()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_holds_a_cell_keeps_it_and_meets_it_again() {
    let mut minters = minters();
    let credential = minters.external_credential(&settings(nowhere()));
    let held = cell(&credential, "held").unwrap();
    advance(IDLE).await;
    for number in 0..MOST {
        cell(&credential, &format!("c{number}")).unwrap();
    }
    advance(IDLE).await;
    assert!(Arc::ptr_eq(&held, &cell(&credential, "held").unwrap()));
}

#[tokio::test]
async fn each_value_is_asked_for_once_from_whatever_thread() {
    let fake = Fake::serving(200, &[], r#"{"access_token":"t","expires_in":60}"#).await;
    let mut minters = minters();
    let credential = minters.external_credential(&settings(fake.url("/token")));
    let from_a_thread = |caller: &'static str| {
        let credential = Arc::clone(&credential);
        tokio::task::spawn_blocking(move || cell(&credential, caller).unwrap())
    };
    for caller in ["a", "b", "a"] {
        from_a_thread(caller).await.unwrap().token().await.unwrap();
    }
    let seen = fake.seen();
    assert_eq!(seen.len(), 2);
    for (request, scope) in seen.iter().zip(["scope=a", "scope=b"]) {
        assert!(String::from_utf8_lossy(request.body()).contains(scope));
    }
}

#[tokio::test]
async fn live_tokens_survive_a_reload_that_changes_nothing_for_them() {
    let fake = Fake::serving(200, &[], r#"{"access_token":"t","expires_in":60}"#).await;
    let mut minters = minters();
    let before = minters.external_credential(&settings(fake.url("/token")));
    let token = cell(&before, "a").unwrap().token().await.unwrap();
    let after = minters.external_credential(&settings(fake.url("/token")));
    drop(before);
    assert_eq!(cell(&after, "a").unwrap().live().unwrap().id(), token.id());
    let mut changed = settings(fake.url("/token"));
    changed.principals[0].client_id = "another".to_owned();
    let changed = minters.external_credential(&changed);
    assert!(cell(&changed, "a").unwrap().live().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_formula_that_fails_makes_no_cell() {
    let mut settings = settings(nowhere());
    settings.request_mut().unwrap().audience = vec![formula("request.path")];
    let credential = minters().external_credential(&settings);
    assert!(matches!(cell(&credential, "a"), Err(CellUnavailable::Formula(_))));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_minters_ends_what_they_made() {
    let mut minters = minters();
    let credential = minters.external_credential(&settings(nowhere()));
    let known = cell(&credential, "a").unwrap();
    drop(minters);
    assert_eq!(known.token().await.unwrap_err().kind, MintFailureKind::Unavailable);
    assert!(matches!(cell(&credential, "b"), Err(CellUnavailable::Ended)));
}

#[tokio::test(start_paused = true)]
async fn a_flow_without_tokens_has_no_cell() {
    let mut settings = settings(nowhere());
    settings.flow = Flow::None;
    let credential = minters().external_credential(&settings);
    let principal = credential.principal(&[]).unwrap();
    assert!(principal.fixed_cell().is_none());
    assert!(principal.cell(&Activation::default()).unwrap().is_none());
}
