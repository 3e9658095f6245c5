//! `GET /openapi.json`: the REST face described as OpenAPI 3.1, made from the
//! tables and types that it is served from.

use axum::{
    body::Bytes,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use crate::config::Faces;

mod document;
mod events;
mod failure;
mod operation;

/// The text of the document, which is the same for everybody.
#[derive(Clone)]
pub(super) struct Document(Bytes);

impl Document {
    /// Describes the faces that are shown.
    pub(super) fn new(shown: Faces) -> Self {
        Self(document::document(shown).to_string().into())
    }
}

/// `GET /openapi.json`.
pub(super) async fn serve(State(document): State<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document.0).into_response()
}
