//! What `keybearer check` says about presets: for each key of one, whether the preset's value holds or the user's own.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::config::{PresetKey, PresetOrigin, PresetUse};

/// A paragraph for each preset in use.
pub(super) fn to_text(presets: &[PresetUse]) -> String {
    let mut text = String::new();
    for preset in presets {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: preset `{}`, {}", preset.credential, preset.preset, preset.provider);
        let _ = writeln!(text, "  {}", preset.about);
        for key in &preset.keys {
            let _ = writeln!(text, "  {:<6}  {}", key.origin.as_str(), line(key));
        }
    }
    text
}

/// `key = value` where the preset's value holds, else why it does not.
fn line(key: &PresetKey) -> String {
    let value = key.value.replace('\n', "\n          ");
    match key.origin {
        PresetOrigin::Preset => format!("{} = {value}", key.key),
        PresetOrigin::Yours => format!("{}, instead of {value}", key.key),
        PresetOrigin::Unused => format!("{} = {value}, which belongs to a key that is yours", key.key),
    }
}

/// `[{ external_credential, preset, provider, about, keys: [{ key, value, origin }] }]`
pub(super) fn to_json(presets: &[PresetUse]) -> Value {
    presets.iter().map(object).collect()
}

fn object(preset: &PresetUse) -> Value {
    let keys: Vec<Value> = preset
        .keys
        .iter()
        .map(|key| json!({ "key": key.key, "value": key.value, "origin": key.origin.as_str() }))
        .collect();
    json!({
        "external_credential": preset.credential,
        "preset": preset.preset,
        "provider": preset.provider,
        "about": preset.about,
        "keys": keys,
    })
}

#[cfg(test)]
mod tests {
    use crate::cli::Format;
    use crate::cli::check::report;
    use crate::config::{Secrets, Source, load};

    const EBAY: &str = r#"
        [named_credentials.items]
        url = "https://api.ebay.com/buy"
        external_credential = "shop"
        [external_credentials.shop]
        preset = "ebay"
        client_authentication = "client_secret_post"
        scope = "canary-scope"
        client_id = "me"
        client_secret = { dangerous_literal = "canary-secret" }
    "#;

    fn reported(text: &str, format: Format) -> String {
        let loaded = load(&Source::Text { name: "proxy.toml".to_owned(), text: text.to_owned() }, Secrets::Read);
        report(&loaded, format, false).0
    }

    #[test]
    fn each_key_is_the_presets_or_yours() {
        let text = reported(EBAY, Format::Text);
        let (_, preset) = text.split_once("shop: preset `ebay`, eBay\n").unwrap();
        let lines: Vec<_> = preset.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  unused  basic_encoding = \"raw\", which belongs to a key that is yours",
                "  yours   client_authentication, instead of \"client_secret_basic\"",
                "  yours   scope, instead of \"https://api.ebay.com/oauth/api_scope\"",
                "  preset  token_endpoint = \"https://api.ebay.com/identity/v1/oauth2/token\"",
                "the configuration is good",
            ]
        );
        assert!(!preset.contains("canary"), "what is yours is not repeated: {preset}");
    }

    #[test]
    fn json_says_the_same() {
        let object: serde_json::Value = serde_json::from_str(&reported(EBAY, Format::Json)).unwrap();
        let preset = &object["presets"][0];
        assert_eq!((&preset["external_credential"], &preset["preset"]), (&"shop".into(), &"ebay".into()));
        assert_eq!(preset["provider"], "eBay");
        assert!(preset["about"].as_str().unwrap().contains("1,000 tokens a day"));
        assert_eq!(preset["keys"][1]["origin"], "yours");
        assert_eq!(preset["keys"][3]["key"], "token_endpoint");
        assert_eq!(preset["keys"][3]["value"], "\"https://api.ebay.com/identity/v1/oauth2/token\"");
        assert_eq!(preset["keys"][3]["origin"], "preset");

        let object: serde_json::Value = serde_json::from_str(&reported("nonsense = 1", Format::Json)).unwrap();
        assert_eq!(object["presets"], serde_json::json!([]));
    }

    #[test]
    fn a_list_of_rules_has_a_line_for_each() {
        let rules = crate::config::PresetKey {
            key: "refresh_when".to_owned(),
            value: "[\n    { status = [400] },\n    { status = [500] },\n]".to_owned(),
            origin: crate::config::PresetOrigin::Preset,
        };
        let line = super::line(&rules);
        let lines: Vec<_> = line.lines().map(str::trim_start).collect();
        assert_eq!(lines, ["refresh_when = [", "{ status = [400] },", "{ status = [500] },", "]"]);
    }
}
