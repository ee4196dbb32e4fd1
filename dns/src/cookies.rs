//! Cookies, by which a client shows that it is at its address (RFC 7873, RFC 9018).

use std::{hash::Hasher, net::IpAddr};

use siphasher::sip::SipHasher24;

use crate::edns::Cookie;

/// How old a cookie of ours may be, and how far in the future, in seconds (RFC 9018 section 4.3).
const MOST_AGE: u32 = 3600;
const MOST_AHEAD: u32 = 300;
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// Makes and checks cookies.
#[derive(Clone)]
pub(crate) struct Cookies {
    secret: [u8; 16],
}

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookies")
    }
}

impl Cookies {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self { secret }
    }

    /// What a client is given: its own cookie and ours. `now` is in seconds.
    pub(crate) fn make(&self, client: [u8; 8], address: IpAddr, now: u32) -> [u8; 24] {
        let mut cookie = [0; 24];
        cookie[..8].copy_from_slice(&client);
        cookie[8..12].copy_from_slice(&VERSION);
        cookie[12..16].copy_from_slice(&now.to_be_bytes());
        let hash = self.hash(&cookie[..16], address);
        cookie[16..].copy_from_slice(&hash);
        cookie
    }

    /// Whether a client has what we gave to its address not long ago.
    pub(crate) fn is_ours(&self, cookie: &Cookie<'_>, address: IpAddr, now: u32) -> bool {
        let Ok(server) = <[u8; 16]>::try_from(cookie.server) else { return false };
        let made = u32::from_be_bytes([server[4], server[5], server[6], server[7]]);
        // Serial number arithmetic, so that it goes on when the clock's 32 bits are used up.
        let age = now.wrapping_sub(made);
        if server[..4] != VERSION || age > MOST_AGE && age.wrapping_neg() > MOST_AHEAD {
            return false;
        }
        let mut signed = [0; 16];
        signed[..8].copy_from_slice(&cookie.client);
        signed[8..].copy_from_slice(&server[..8]);
        self.hash(&signed, address) == server[8..]
    }

    fn hash(&self, signed: &[u8], address: IpAddr) -> [u8; 8] {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(signed);
        match address {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
        hasher.finish().to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let digits = hex.as_bytes().as_chunks::<2>().0;
        let pair = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.iter().map(pair).collect::<Vec<_>>().try_into().unwrap()
    }

    /// RFC 9018 appendix A.
    #[test]
    fn cookies_are_those_of_the_standard() {
        let cookies = Cookies::new(bytes("e5e973e5a6b2a43f48e7dc849e37bfcf"));
        let address: IpAddr = "198.51.100.100".parse().unwrap();
        let made = cookies.make(bytes("2464c4abcf10c957"), address, 1_559_731_985);
        assert_eq!(made, bytes("2464c4abcf10c957010000005cf79f111f8130c3eee29480"));

        let address: IpAddr = "2001:db8:220:1:59de:d0f4:8769:82b8".parse().unwrap();
        let cookies = Cookies::new(bytes("dd3bdf9344b678b185a6f5cb60fca715"));
        let made = cookies.make(bytes("22681ab97d52c298"), address, 1_559_741_817);
        assert_eq!(made, bytes("22681ab97d52c298010000005cf7c57926556bd0934c72f8"));
        let cookies = Cookies::new(bytes("445536bcd2513298075a5d379663c962"));
        let made = cookies.make(bytes("22681ab97d52c298"), address, 1_559_741_961);
        assert_eq!(made, bytes("22681ab97d52c298010000005cf7c609a6bb79d16625507a"));
    }

    #[test]
    fn a_cookie_is_good_for_an_hour_for_whom_it_was_made() {
        let cookies = Cookies::new([7; 16]);
        let [here, there]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let made = cookies.make([1; 8], here, 10_000);
        let cookie = Cookie { client: [1; 8], server: &made[8..] };
        for (now, is_good) in
            [(10_000, true), (13_600, true), (13_601, false), (9_700, true), (9_699, false)]
        {
            assert_eq!(cookies.is_ours(&cookie, here, now), is_good, "{now}");
        }
        assert!(!cookies.is_ours(&cookie, there, 10_000));
        assert!(!cookies.is_ours(&Cookie { client: [2; 8], ..cookie }, here, 10_000));
        assert!(!Cookies::new([8; 16]).is_ours(&cookie, here, 10_000));
        let late = cookies.make([1; 8], here, u32::MAX);
        let late = Cookie { client: [1; 8], server: &late[8..] };
        assert!(cookies.is_ours(&late, here, 10), "the clock may begin anew");
    }
}
