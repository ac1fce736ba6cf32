//! Values of arguments that clap does not know by itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::catalog::options::parse_duration;

/// A length of time above zero, such as `250ms`, `1s` or `2 minutes`.
pub fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("it takes a length of time such as 250ms, 1s or 2m".into()),
    }
}

/// A number of bytes above zero, such as `512MB` or `2 GB`; a KB is 1024 bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim().find(|c: char| !c.is_ascii_digit()).unwrap_or(text.trim().len());
    let (number, unit) = text.trim().split_at(digits);
    let shift = match unit.trim().to_ascii_uppercase().as_str() {
        "B" => 0,
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => 64,
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1_u64.checked_shl(shift)?));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| "it takes a size such as 512MB or 2GB".into())
}

/// `ADDRESS:PORT`, where the address may be `localhost`, or a port alone, which means loopback.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    match port.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Err(_) => Err("it takes ADDRESS:PORT such as 127.0.0.1:9464, or a port".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!((size("512MB"), size("2 gb"), size("7B")), (Ok(512 << 20), Ok(2 << 30), Ok(7)));
        for wrong in ["", "512", "0MB", "-1MB", "MB", "1 TB", "99999999999999999999GB", "17179869184GB"] {
            assert_eq!(size(wrong), Err("it takes a size such as 512MB or 2GB".into()), "{wrong}");
        }
    }

    #[test]
    fn an_address_may_be_short() {
        for text in ["127.0.0.1:80", "localhost:80", ":80", "80"] {
            assert_eq!(address(text).unwrap().to_string(), "127.0.0.1:80", "{text}");
        }
        assert_eq!(address("[::1]:80").unwrap().to_string(), "[::1]:80");
        assert!(address("example.org:80").unwrap_err().contains("127.0.0.1:9464"));
        assert!(address("127.0.0.1:99999").is_err());
    }

    #[test]
    fn a_length_of_time_has_a_unit_and_is_not_zero() {
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert!(duration("0s").unwrap_err().contains("250ms"));
        assert!(duration("5").is_err());
    }
}
