//! JSON Schema (2020-12) of what is answered, made from the types.

use schemars::{JsonSchema, generate::SchemaSettings, transform::RestrictFormats};
use serde_json::{Map, Value};

/// The schema of a type, whole in itself.
pub fn schema_of<T: JsonSchema>() -> Map<String, Value> {
    // `uint64` and the like are no formats of JSON Schema; stock clients warn of them at every call
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(RestrictFormats::default());
    let schema = settings.into_generator().into_root_schema_for::<T>();
    match schema.to_value() {
        Value::Object(mut schema) => {
            schema.remove("$schema");
            schema.remove("title");
            schema
        }
        _ => Map::new(),
    }
}
