//! `RateService`, and rate limits as messages.

use std::collections::{BTreeMap, HashMap};

use authguardian_proto::{
    identity::v1::{
        LeaseRatesRequest, LeaseRatesResponse, RateLimit as PbLimit, RateShare, RateUse,
        rate_service_server::RateService,
    },
    rate::{LimitId, RateLimit, RateLimits, Share, TOOLS, Use},
};
use tonic::{Request, Response, Status};

use super::{auth, convert::parse};
use crate::{
    error::{Error, Result},
    identity::Identity,
};

/// Most limits that one call asks for.
const MAX_USES: usize = 1000;

/// See the `.proto` file.
#[derive(Debug)]
pub struct Rates(pub Identity);

#[tonic::async_trait]
impl RateService for Rates {
    async fn lease_rates(
        &self,
        request: Request<LeaseRatesRequest>,
    ) -> std::result::Result<Response<LeaseRatesResponse>, Status> {
        let machine = auth::machine(&request)?;
        let uses = request.into_inner().uses;
        if uses.is_empty() || uses.len() > MAX_USES {
            return Err(Error::invalid("uses", format!("expected 1 to {MAX_USES} uses")).into());
        }
        let uses = uses.iter().map(read).collect::<Result<Vec<_>>>()?;
        let shares = self.0.lease_rates(machine, &uses).await?;
        Ok(Response::new(LeaseRatesResponse {
            shares: shares
                .iter()
                .map(|share| share_message(share.as_ref()))
                .collect(),
        }))
    }
}

fn read(message: &RateUse) -> Result<(LimitId, Use)> {
    let id = LimitId {
        api_key_id: parse("uses.api_key_id", &message.api_key_id)?,
        tool: message.tool.clone(),
    };
    if !id.tool.is_empty() {
        check_tool("uses.tool", &id.tool)?;
    }
    for (field, number) in [
        ("uses.wanted", message.wanted),
        ("uses.held", message.held),
        ("uses.tokens", message.tokens),
    ] {
        if !(number.is_finite() && number >= 0.0) {
            return Err(Error::invalid(
                field,
                "expected a number that is not negative",
            ));
        }
    }
    let told = Use {
        wanted: message.wanted,
        held: message.held,
        tokens: message.tokens,
        release: message.release,
    };
    Ok((id, told))
}

fn share_message(share: Option<&Share>) -> RateShare {
    let millis = |span: std::time::Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
    match share {
        None => RateShare {
            unlimited: true,
            ..RateShare::default()
        },
        Some(share) => RateShare {
            unlimited: false,
            per_second: share.per_second,
            burst: share.burst,
            tokens: share.tokens,
            lease_ms: millis(share.lease),
            again_ms: millis(share.again),
        },
    }
}

/// A limit from a message.
pub(super) fn limit(field: &str, message: PbLimit) -> Result<RateLimit> {
    RateLimit::new(message.per_second, message.burst)
        .map_err(|error| Error::invalid(field, error.to_string()))
}

/// A limit as a message.
pub(super) fn message_of(limit: RateLimit) -> PbLimit {
    PbLimit {
        per_second: limit.per_second,
        burst: limit.burst,
    }
}

/// Limits of single tools from a message.
pub(super) fn tool_limits(
    messages: &HashMap<String, PbLimit>,
) -> Result<BTreeMap<String, RateLimit>> {
    const FIELD: &str = "tool_rate_limits";
    messages
        .iter()
        .map(|(tool, message)| {
            check_tool(FIELD, tool)?;
            Ok((tool.clone(), limit(FIELD, *message)?))
        })
        .collect()
}

/// Limits of single tools as a message.
pub(super) fn tool_messages(limits: &RateLimits) -> HashMap<String, PbLimit> {
    let tools = limits.tools.iter();
    tools
        .map(|(tool, limit)| (tool.clone(), message_of(*limit)))
        .collect()
}

/// A misspelt name would limit nothing.
pub(super) fn check_tool(field: &str, tool: &str) -> Result<()> {
    if TOOLS.contains(&tool) {
        return Ok(());
    }
    let detail = format!(
        "there is no tool `{tool}`, expected one of {}",
        TOOLS.join(", ")
    );
    Err(Error::invalid(field, detail))
}
