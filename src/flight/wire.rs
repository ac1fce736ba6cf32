//! The little of protobuf's encoding that arrow-flight keeps to itself: packing a ticket, and finding it again in what a
//! client wants to be cancelled.

use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightInfo, Ticket};

/// A field that holds bytes, a text or a message.
const BYTES: u8 = 2;

/// The ticket for a statement's results.
pub fn ticket(handle: &str) -> Ticket {
    let query = TicketStatementQuery { statement_handle: handle.as_bytes().to_vec().into() };
    let any = query.as_any();
    let mut encoded = vec![];
    put(&mut encoded, 1, any.type_url.as_bytes());
    put(&mut encoded, 2, &any.value);
    Ticket::new(encoded)
}

/// The handle in the first ticket of a [`FlightInfo`].
pub fn handle_of(info: &FlightInfo) -> Option<String> {
    handle_in_ticket(&info.endpoint.first()?.ticket.as_ref()?.ticket)
}

/// The handle in an encoded [`FlightInfo`]: the first ticket of its first endpoint.
pub fn handle_in_info(info: &[u8]) -> Option<String> {
    let endpoint = field(info, 3)?;
    handle_in_ticket(field(field(endpoint, 1)?, 1)?)
}

/// The [`FlightInfo`] in an encoded request to cancel it, itself encoded.
pub fn info_in_request(request: &[u8]) -> Option<&[u8]> {
    field(request, 1)
}

/// A message whose only field is this number.
pub fn number(value: u8) -> Vec<u8> {
    vec![1 << 3, value & 0x7f]
}

fn handle_in_ticket(ticket: &[u8]) -> Option<String> {
    if field(ticket, 1)? != TicketStatementQuery::type_url().as_bytes() {
        return None;
    }
    String::from_utf8(field(field(ticket, 2)?, 1)?.to_vec()).ok()
}

/// The first field of that number, if it holds bytes.
fn field(message: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut rest = message;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let size = match (key & 7) as u8 {
            0 => {
                varint(&mut rest)?;
                continue;
            }
            1 => 8,
            BYTES => usize::try_from(varint(&mut rest)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, after) = rest.split_at_checked(size)?;
        if key >> 3 == wanted {
            return (key & 7 == u64::from(BYTES)).then_some(value);
        }
        rest = after;
    }
    None
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put(message: &mut Vec<u8>, number: u8, value: &[u8]) {
    message.push(number << 3 | BYTES);
    let mut size = value.len();
    while size >= 0x80 {
        message.push(size as u8 | 0x80);
        size >>= 7;
    }
    message.push(size as u8);
    message.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a client sends it: a schema and a descriptor before the endpoint, numbers after it.
    fn encoded_info(ticket: &[u8]) -> Vec<u8> {
        let (mut inner, mut endpoint, mut info) = (vec![], vec![], vec![]);
        put(&mut inner, 1, ticket);
        put(&mut endpoint, 1, &inner);
        put(&mut info, 1, &[7; 300]);
        put(&mut info, 2, &[]);
        info.extend([4 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        put(&mut info, 3, &endpoint);
        info.extend([6 << 3, 1]);
        info
    }

    #[test]
    fn a_handle_is_found_in_what_is_to_be_cancelled() {
        let ticket = ticket("the handle");
        let info = encoded_info(&ticket.ticket);
        assert_eq!(handle_in_info(&info).as_deref(), Some("the handle"));
        let mut request = vec![];
        put(&mut request, 1, &info);
        assert_eq!(info_in_request(&request), Some(&info[..]));
    }

    #[test]
    fn bytes_that_mean_nothing_are_no_handle() {
        let info = encoded_info(&ticket("h").ticket);
        for end in 0..info.len() - 2 {
            assert_eq!(handle_in_info(&info[..end]), None, "cut at {end}");
        }
        for at in 0..info.len() {
            for bit in 0..8 {
                let mut damaged = info.clone();
                damaged[at] ^= 1 << bit;
                handle_in_info(&damaged);
            }
        }
        assert_eq!(handle_in_info(&[0xff; 40]), None);
        assert_eq!(handle_in_info(&encoded_info(b"other")), None);
    }
}
