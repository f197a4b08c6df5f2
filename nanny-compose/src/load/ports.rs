//! Ports in their short form: `[[ip:]published:]target[/protocol]`.

use std::net::IpAddr;

use crate::model::{Port, Protocol};

/// The ports that a text stands for.
pub(super) fn parse(text: &str) -> Result<Vec<Port>, &'static str> {
    let (mut addresses, container) =
        text.rsplit_once(':').map_or((None, text), |(left, right)| (Some(left), right));
    let (container, protocol) = container.split_once('/').unwrap_or((container, "tcp"));
    let protocol = match protocol.to_lowercase().as_str() {
        "tcp" | "" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err("the protocol must be tcp, udp or sctp"),
    };
    let mut host_ip = None;
    if let Some((ip, published)) = addresses.and_then(|text| text.rsplit_once(':')) {
        host_ip = Some(address(ip)?).filter(|ip| !ip.is_empty());
        addresses = Some(published);
    }
    let published = addresses.filter(|text| !text.is_empty()).map(range).transpose()?;
    let (first, last) = range(container)?;
    if first == 0 {
        return Err("the container's port cannot be 0");
    }
    let published_at = |index: u16| match published {
        None => Ok(None),
        Some((from, to)) if to - from == last - first => Ok(Some((from + index).to_string())),
        Some((from, to)) if first == last => Ok(Some(format!("{from}-{to}"))),
        Some(_) => Err("the two ranges have different lengths"),
    };
    let port = |target: u16| -> Result<Port, &'static str> {
        let published = published_at(target - first)?;
        Ok(Port { host_ip: host_ip.clone(), published, target, protocol })
    };
    let mut ports = (first..=last).map(port).collect::<Result<Vec<_>, _>>()?;
    // Compose takes a range apart in the order of its numbers as text.
    ports.sort_by_key(|port| port.target.to_string());
    Ok(ports)
}

fn address(text: &str) -> Result<String, &'static str> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if bare.is_empty() || bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    Err("the host must be an IP address")
}

fn range(text: &str) -> Result<(u16, u16), &'static str> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits).ok_or("a port is a number up to 65535")
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last { Err("the range runs backwards") } else { Ok((first, last)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Vec<String> {
        let ports = parse(text).expect("the text is a port");
        ports.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_short_forms_are_understood() {
        for (text, expected) in [
            ("80", "80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("8080:80/UDP", "8080:80/udp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("127.0.0.1::80", "127.0.0.1::80/tcp"),
            ("[::1]:8080:80", "[::1]:8080:80/tcp"),
            ("::1:8080:80", "[::1]:8080:80/tcp"),
            ("8000-8010:80", "8000-8010:80/tcp"),
            (":80", "80/tcp"),
        ] {
            assert_eq!(ports(text), [expected], "{text}");
        }
    }

    #[test]
    fn ranges_are_taken_apart_in_composes_order() {
        assert_eq!(ports("9-11"), ["10/tcp", "11/tcp", "9/tcp"]);
        assert_eq!(ports("80-81:8080-8081"), ["80:8080/tcp", "81:8081/tcp"]);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", "http", "80:", "70000", "2-1", "1-2:3-5", "x:1:2", "80/quic", "+80", "-"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
