//! A fuzz target: arguments of tools, whatever they are.

use authguardian_proto::{reason::Reason, testing::Damage};
use bolero::check;
use serde_json::{Map, Value, json};

use super::{
    Tool,
    form::{Form, Kind},
};
use crate::slices::MAX_AMOUNT;

fn good(tool: Tool) -> Map<String, Value> {
    let arguments = tool.fields().iter().map(|field| {
        let value = match field.kind {
            Kind::Agent => json!("data_analyst"),
            Kind::Grant => json!("grt_0000000000000000000007"),
            Kind::Token => json!("eyJ0eXAiOiJKV1QifQ.e30.AAAA"),
            Kind::Request => json!("request 1"),
            Kind::Text(_) => json!("Q4 analysis task"),
            Kind::Whole(least, _) => json!(least),
            Kind::OneOf(words) => json!(words[0]),
            Kind::Machine => json!("mch_0000000000000000000007"),
            Kind::Flag => json!(true),
            Kind::CapabilityQuery => json!("finance.*"),
            Kind::Capabilities => {
                json!(["mail", { "name": "ocr", "version": "2", "attributes": { "a": "b" } }])
            }
            Kind::Labels => json!({ "region": "eu" }),
            Kind::Endpoint => json!("http://127.0.0.1:8000/mcp"),
            Kind::Board => json!("strong"),
            Kind::Key => json!("tasks/1"),
            Kind::Prefix => json!("tasks/"),
            Kind::Json => json!({ "a": [1.10, null] }),
            Kind::Revision => json!(7),
            Kind::Position => json!("3.120"),
            Kind::LockHeld => json!({ "key": "lock", "fencing_revision": 7 }),
            Kind::Compares => json!([{ "key": "a", "revision": 0 }, { "key": "b", "value": null }]),
            Kind::Operations => json!([
                { "op": "put", "key": "a", "value": 1, "ttl_seconds": 5 },
                { "op": "delete", "key": "b" },
                { "op": "get", "key": "c" },
            ]),
            Kind::Task => json!("q4/report"),
            Kind::Reservation => json!("rsv_0000000000000000000007"),
            Kind::Amount(_) => json!(120),
        };
        (field.name.to_owned(), value)
    });
    arguments.collect()
}

#[test]
fn any_arguments_are_read_or_refused_with_the_field_at_fault() {
    let texts = Tool::ALL.map(|tool| serde_json::to_string(&good(tool)).unwrap());
    check!()
        .with_type()
        .for_each(|(damage, which): &(Damage, u8)| {
            let which = usize::from(*which) % Tool::ALL.len();
            let fields = Tool::ALL[which].fields();
            let text = damage.to_bytes(texts[which].as_bytes());
            let Ok(Value::Object(arguments)) = serde_json::from_slice(&text) else {
                return;
            };
            match Form::read(fields, arguments) {
                Ok(form) => {
                    for field in fields {
                        // what a message is made of is there, and of its kind
                        let text = form.message_text(field.name);
                        let number = form.message_number(field.name);
                        match field.kind {
                            Kind::Whole(least, most) => {
                                let given = !field.required && number == 0;
                                assert!(given || (least..=most).contains(&number));
                            }
                            Kind::OneOf(words) => {
                                assert!(text.is_empty() || words.contains(&text.as_str()));
                            }
                            Kind::Text(most) => assert!(text.chars().count() <= most),
                            // any JSON
                            Kind::Json => {
                                assert!(form.json(field.name).is_ok() || !field.required);
                                continue;
                            }
                            Kind::Amount(least) => {
                                let amount = form.amount(field.name, least);
                                assert!(amount.is_ok_and(|amount| amount <= MAX_AMOUNT));
                                continue;
                            }
                            _ => assert!(text.len() <= 16 * 1024),
                        }
                        assert!(!field.required || !text.is_empty() || number > 0);
                    }
                }
                Err(problem) => {
                    let known = [Reason::InvalidArgument, Reason::TooLarge];
                    assert!(known.contains(&problem.reason), "{problem:?}");
                    let field = problem.field.unwrap();
                    assert!(field.chars().count() <= 64, "{field}");
                    assert!(problem.detail.len() <= 400, "{}", problem.detail);
                }
            }
        });
}
