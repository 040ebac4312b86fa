//! A request's body, whole: as long as it may be, and within a time limit, so that nobody holds a request open by trickling.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;

use crate::error::{Kind, Refusal};

/// A body has to be here within this time.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Reads a body of at most so many bytes.
pub(crate) async fn whole(body: Body, length_max: usize) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(TIME_MAX, to_bytes(body, length_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => {
            Err(Refusal::new(Kind::TooLarge, format!("the body is larger than {length_max} bytes: send it in parts")))
        }
        Ok(Err(error)) => Err(Refusal::invalid(format!("the body cannot be read: {error}"))),
        Err(_) => Err(Refusal::new(
            Kind::TooSlow,
            format!("the body did not come within {} s: send it at once", TIME_MAX.as_secs()),
        )),
    }
}

/// Whether a limit is the reason, somewhere among the causes.
fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
