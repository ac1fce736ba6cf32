//! What Redis runs in one step: the comparison with the fence key, and only then the writes.
//!
//! The fence key of a table is a hash: `log` and `run` say who may write, `session` which of its connections (what an
//! older one still has under way must not arrive later), `epoch` up to where a stream has been written and `by` which run,
//! `part` and `done` how many entries of the next epoch are there.

use std::sync::OnceLock;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, RedisResult, Script};

use super::commands::Command;

/// A script holds up every other client of the server while it runs, so that it gets no more than this.
const CHUNK_BYTES: usize = 1 << 20;
const CHUNK_COMMANDS: usize = 5_000;
/// Lua's stack is short: no call gets more arguments than about this.
const CALL_ARGUMENTS: usize = 1_000;

/// Arguments: log, run, whether another log's fence is replaced.
/// Answers: `fenced`, `other`, `none` or `found`, then log, run and epoch of what was found and the run that wrote the
/// epoch, then the new session.
const CLAIM: &str = r"
local at = redis.call('HMGET', KEYS[1], 'log', 'run', 'epoch', 'by')
local log, run, epoch, by = at[1] or '', at[2] or '0', at[3] or '0', at[4] or '0'
if log == ARGV[1] and tonumber(run) > tonumber(ARGV[2]) then return {'fenced', log, run, epoch, by, ''} end
if log ~= '' and log ~= ARGV[1] then
  if ARGV[3] ~= '1' then return {'other', log, run, epoch, by, ''} end
  redis.call('DEL', KEYS[1])
end
local time = redis.call('TIME')
local session = time[1] .. '.' .. time[2]
redis.call('HSET', KEYS[1], 'log', ARGV[1], 'run', ARGV[2], 'session', session)
if log == '' then return {'none', '', '0', '0', '0', session} end
return {'found', log, run, epoch, by, session}
";

/// Arguments: log, run, session; the epoch of a stream or nothing, the epoch that is known to be there, the number of
/// the first entry in its epoch, whether the epoch ends here; then the calls, each with the number of its words.
const WRITE: &str = r"
local at = redis.call('HMGET', KEYS[1], 'log', 'run', 'session', 'epoch', 'part', 'done')
if not at[1] then return {'gone'} end
if at[1] ~= ARGV[1] or tonumber(at[2]) > tonumber(ARGV[2]) then
  return {'fenced', at[1], at[2], at[4] or '0'}
end
if at[2] ~= ARGV[2] then return {'gone'} end
if at[3] ~= ARGV[3] then return {'stale'} end
local epoch, first = tonumber(ARGV[4]), tonumber(ARGV[6])
if epoch then
  local settled = tonumber(at[4] or '0')
  if settled < tonumber(ARGV[5]) then return {'behind', at[4] or '0'} end
  if settled >= epoch then return {'there'} end
  local done = 0
  if at[5] == ARGV[4] then done = tonumber(at[6]) end
  if done ~= first then return {'done', tostring(done)} end
end
local i, count = 8, 0
while i <= #ARGV do
  local words = tonumber(ARGV[i])
  local answer = redis.pcall(unpack(ARGV, i + 1, i + words))
  if type(answer) == 'table' and answer.err then
    if epoch and count > 0 then redis.call('HSET', KEYS[1], 'part', ARGV[4], 'done', tostring(first + count)) end
    return {'error', answer.err}
  end
  i, count = i + words + 1, count + 1
end
if epoch and ARGV[7] == '1' then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[4], 'by', ARGV[2])
  redis.call('HDEL', KEYS[1], 'part', 'done')
elseif epoch then
  redis.call('HSET', KEYS[1], 'part', ARGV[4], 'done', tostring(first + count))
end
return {'ok'}
";

/// A script that the server may know.
pub(super) struct Known {
    script: Script,
}

/// Takes the fence over.
pub(super) fn claim() -> &'static Known {
    static SCRIPT: OnceLock<Known> = OnceLock::new();
    SCRIPT.get_or_init(|| Known { script: Script::new(CLAIM) })
}

/// Writes behind the fence.
pub(super) fn write() -> &'static Known {
    static SCRIPT: OnceLock<Known> = OnceLock::new();
    SCRIPT.get_or_init(|| Known { script: Script::new(WRITE) })
}

impl Known {
    /// A call with one key; its arguments are added by the caller.
    pub(super) fn call(&self, key: &str) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.script.get_hash()).arg(1).arg(key);
        call
    }

    /// Runs it; a server that does not know the script gets it first.
    pub(super) async fn run(&self, call: &Cmd, connection: &mut MultiplexedConnection) -> RedisResult<Vec<String>> {
        match call.query_async(connection).await {
            Err(error) if is_unknown(&error) => {
                self.script.prepare_invoke().load_async(connection).await?;
                call.query_async(connection).await
            }
            answer => answer,
        }
    }
}

fn is_unknown(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript)
}

/// The commands that go into one script, from the front: at least one, if there is one.
pub(super) fn chunk(commands: &[Command]) -> &[Command] {
    let mut bytes = 0;
    for (number, command) in commands.iter().enumerate().take(CHUNK_COMMANDS) {
        let mut size = 0;
        each_call(command, &mut |words| size += words.iter().map(|word| word.len()).sum::<usize>());
        bytes += size;
        if number > 0 && bytes > CHUNK_BYTES {
            return &commands[..number];
        }
    }
    &commands[..commands.len().min(CHUNK_COMMANDS)]
}

/// What Redis is asked for a command, call by call.
pub(super) fn each_call(command: &Command, call: &mut dyn FnMut(&[&[u8]])) {
    let milliseconds =
        |ttl: &std::time::Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1).to_string();
    match command {
        Command::Set { key, value, ttl: None } => call(&[b"SET", key.as_bytes(), value.as_bytes()]),
        Command::Set { key, value, ttl: Some(ttl) } => {
            call(&[b"SET", key.as_bytes(), value.as_bytes(), b"PX", milliseconds(ttl).as_bytes()]);
        }
        Command::Hash { key, fields, absent, ttl } => {
            for some in fields.chunks(CALL_ARGUMENTS / 2) {
                let mut words: Vec<&[u8]> = vec![b"HSET", key.as_bytes()];
                words.extend(some.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
                call(&words);
            }
            for some in absent.chunks(CALL_ARGUMENTS) {
                let mut words: Vec<&[u8]> = vec![b"HDEL", key.as_bytes()];
                words.extend(some.iter().map(|name| name.as_bytes()));
                call(&words);
            }
            if let Some(ttl) = ttl {
                call(&[b"PEXPIRE", key.as_bytes(), milliseconds(ttl).as_bytes()]);
            }
        }
        Command::Add { key, fields, max_length } => {
            let most = max_length.map(|most| most.to_string());
            let mut words: Vec<&[u8]> = vec![b"XADD", key.as_bytes()];
            if let Some(most) = &most {
                words.extend([b"MAXLEN" as &[u8], b"~", most.as_bytes()]);
            }
            words.push(b"*");
            words.extend(fields.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
            call(&words);
        }
        Command::Publish { channel, message } => call(&[b"PUBLISH", channel.as_bytes(), message.as_bytes()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_get_no_more_than_they_should() {
        let small = |number: usize| Command::Set { key: format!("k{number}"), value: "v".into(), ttl: None };
        let many: Vec<Command> = (0..CHUNK_COMMANDS + 7).map(small).collect();
        assert_eq!(chunk(&many).len(), CHUNK_COMMANDS);
        assert_eq!(chunk(&many[CHUNK_COMMANDS..]).len(), 7);
        assert_eq!(chunk(&[]).len(), 0);
        let large = Command::Set { key: "k".into(), value: "v".repeat(CHUNK_BYTES + 1), ttl: None };
        assert_eq!(chunk(&[large.clone(), small(1)]).len(), 1);
        assert_eq!(chunk(&[small(1), large, small(2)]).len(), 1);
        let fields = (0..4000).map(|number| (format!("f{number}"), "1".into())).collect();
        let wide = Command::Hash { key: "h".into(), fields, absent: vec!["gone".into()], ttl: None };
        let mut calls = vec![];
        each_call(&wide, &mut |words| calls.push(words.len()));
        assert_eq!(calls, [1002, 1002, 1002, 1002, 1002, 1002, 1002, 1002, 3]);
    }
}
