//! What makes a new state durable, as backends are told it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use persona_core::ids::LeaseId;

use super::NumberRecord;
use super::record::{Record, body_of};
use super::records::LeaseRecord;
use super::snapshot::Table;

/// A record to be stored: its text is made where it is written down, and only then.
#[derive(Clone)]
pub(crate) struct Body(Arc<dyn Written>);

trait Written: Send + Sync {
    fn text(&self) -> Cow<'_, str>;
}

impl<R: Record> Written for R {
    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(body_of(self))
    }
}

/// A record that is text already.
struct Ready(String);

impl Written for Ready {
    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

impl Body {
    pub(super) fn of<R: Record>(record: Arc<R>) -> Self {
        Self(record)
    }

    /// The record as JSON.
    pub(super) fn text(&self) -> Cow<'_, str> {
        self.0.text()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(Arc::new(Ready(text)))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

/// One change of a table.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    /// A number that counts up.
    Number(NumberRecord),
    /// A record, new or in place of the one with the same key.
    Put {
        /// Where.
        table: Table,
        /// Its key.
        key: String,
        /// The record.
        body: Body,
    },
    /// A record that is gone.
    Delete {
        /// Where.
        table: Table,
        /// Its key.
        key: String,
    },
    /// Port ranges that a lease holds from now on.
    Hold(Arc<LeaseRecord>),
    /// A lease whose port ranges are free.
    Free(LeaseId),
    /// Events up to this number are dropped.
    DropEvents(u64),
}
