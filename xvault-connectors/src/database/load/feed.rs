//! A dump into the standard input of a tool, while what the tool says goes to the log.

use bytes::Bytes;
use tokio::time::timeout;

use super::{DumpReader, DumpWriter};
use crate::database::Reach;
use crate::database::complaint::{of_a_dump, understood};
use crate::source::dump::Lines;
use crate::ssh::ExecEvent;
use crate::tool::{Call, Input, LONGEST_STATEMENT, Running};
use crate::{Control, Error};

/// What goes to the tool before and after the dump. What comes after is sent only when the dump is whole.
#[derive(Debug, Clone, Default)]
pub(super) struct Frame {
    pub(super) before: Bytes,
    pub(super) after: &'static [u8],
}

/// Feeds the whole `dump` to `call`; returns its length.
pub(super) async fn feed(
    reach: &Reach,
    call: Call,
    frame: &Frame,
    dump: &mut DumpReader,
    control: &Control,
) -> Result<u64, Error> {
    let name = call.name();
    let hear = |line: &str| control.progress().note(&format!("{name}: {line}"));
    feed_through(reach, call, frame, dump, control, Told { hear, lines: Lines::default(), output: None })
        .await
}

/// What is done with what a tool tells: each of the `lines` of its complaints, and its output.
pub(super) struct Told<'a, F> {
    pub(super) hear: F,
    pub(super) lines: Lines,
    pub(super) output: Option<&'a DumpWriter>,
}

/// As [`feed`], with what the tool says.
pub(super) async fn feed_through<F: FnMut(&str) + Send>(
    reach: &Reach,
    mut call: Call,
    frame: &Frame,
    dump: &mut DumpReader,
    control: &Control,
    told: Told<'_, F>,
) -> Result<u64, Error> {
    call.takes_input = true;
    let mut tool = control.run(reach.run(call)).await.map_err(|error| understood(error, reach))?;
    let fed = control.run(converse(&mut tool, frame, dump, control, told)).await;
    if fed.is_err() {
        tool.stop().await;
    }
    fed.map_err(|error| of_a_dump(error, reach))
}

async fn converse<F: FnMut(&str) + Send>(
    tool: &mut Running,
    frame: &Frame,
    dump: &mut DumpReader,
    control: &Control,
    mut told: Told<'_, F>,
) -> Result<u64, Error> {
    let name = tool.name().to_owned();
    let Some(mut input) = tool.take_input() else {
        return Err(Error::Incomplete(format!("{name} takes no input")));
    };
    let mut pumped = None;
    {
        let pump = pump(&mut input, frame, dump, control);
        tokio::pin!(pump);
        loop {
            tokio::select! {
                result = &mut pump, if pumped.is_none() => match result {
                    // The tool's own end says why it took no more.
                    Err(Error::Io { .. }) => pumped = Some(false),
                    result => {
                        result?;
                        pumped = Some(true);
                    }
                },
                event = said(tool, pumped.is_some()) => match event? {
                    None => break,
                    Some(ExecEvent::Stderr(data)) => told.lines.push(&data, &mut told.hear),
                    Some(ExecEvent::Stdout(data)) => {
                        if let Some(output) = told.output && output.push(data).await.is_err() {
                            return Err(Error::Incomplete(format!("nobody takes what {name} writes")));
                        }
                    }
                },
            }
        }
    }
    tool.check_exit()?;
    match pumped {
        Some(true) => Ok(dump.received()),
        _ => Err(Error::Incomplete(format!("{name} ended before it had read all of the dump"))),
    }
}

/// What the tool says next. Once it `has_all`, it works on the last of it alone.
async fn said(tool: &mut Running, has_all: bool) -> Result<Option<ExecEvent>, Error> {
    if !has_all {
        return tool.next().await;
    }
    let said = timeout(LONGEST_STATEMENT, tool.next()).await;
    said.unwrap_or_else(|_| {
        Err(Error::Timeout { what: format!("{} (its end)", tool.name()), after: LONGEST_STATEMENT })
    })
}

async fn pump(
    input: &mut Input,
    frame: &Frame,
    dump: &mut DumpReader,
    control: &Control,
) -> Result<(), Error> {
    input.write(frame.before.clone()).await?;
    while let Some(piece) = dump.next().await? {
        let count = piece.len() as u64;
        control.throttle(count).await?;
        input.write(piece).await?;
        control.progress().bytes(count);
    }
    input.write(Bytes::from_static(frame.after)).await?;
    input.end().await
}
