//! The AuthGuardian edge: a thin process on every host that exposes MCP
//! locally and forwards what it cannot answer itself over mTLS.
