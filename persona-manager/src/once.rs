//! What is asked twice under one idempotency key is done once, and answered the same.
//!
//! A key belongs to who sent it and to the body that came with it. The answer is kept in the transaction that makes what it
//! is about, encrypted under the key itself, of which the store has a digest only: answers may hold secrets of tokens.

use axum::http::{HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::sha256_hex;
use crate::error::{Kind, Refusal};
use crate::store::{Draft, OnceRecord, Snapshot};

/// The header that has the key.
pub(crate) const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// How long an answer is kept: a day, milliseconds.
const KEPT_MS: u64 = 24 * 3_600_000;

/// Answers that are kept for one identity.
const KEPT_COUNT_MAX: usize = 1_000;

/// Characters of a key: as many as random ones need, and no more than headers bear.
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 16..=255;

/// A request under an idempotency key.
pub(crate) struct Once {
    sender: String,
    /// What the store finds it by.
    id: String,
    /// SHA-256 of what was sent, in hex.
    request: String,
    /// What the answer is encrypted with.
    seal: [u8; 32],
}

impl Once {
    /// Reads the header of a request by `sender` of `what` with `body`. None: it has no key.
    pub(crate) fn of(headers: &HeaderMap, sender: &str, what: &str, body: &[u8]) -> Result<Option<Self>, Refusal> {
        let Some(key) = headers.get(KEY_HEADER) else { return Ok(None) };
        let key = key.to_str().ok().filter(|key| KEY_LENGTHS.contains(&key.len()));
        let key = key.ok_or_else(|| {
            Refusal::invalid(
                "Idempotency-Key is not valid: send 16 to 255 characters that nobody guesses, such as a UUID",
            )
        })?;
        let about = |purpose: &str| format!("persona once {purpose} 1\n{sender}\n{key}");
        let request = sha256_hex(&[what.as_bytes(), b"\n", body].concat());
        let seal = digest(&SHA256, about("seal").as_bytes());
        Ok(Some(Self {
            sender: sender.to_owned(),
            id: sha256_hex(about("id").as_bytes()),
            request,
            seal: seal.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        }))
    }

    /// The answer that was given before, if one was.
    pub(crate) fn find<T: DeserializeOwned>(&self, snapshot: &Snapshot, now_ms: u64) -> Result<Option<T>, Refusal> {
        let kept = snapshot.once.get(&self.id);
        let Some(kept) = kept.filter(|kept| !is_over(kept, now_ms)) else { return Ok(None) };
        if kept.request != self.request {
            let detail = "this Idempotency-Key came with another request before: take a new key for a new request";
            return Err(Refusal::new(Kind::KeyReused, detail));
        }
        let broken = || Refusal::internal(anyhow::anyhow!("a kept answer cannot be read"));
        let answer = self.open(&kept.answer).ok_or_else(broken)?;
        serde_json::from_slice(&answer).map(Some).map_err(Refusal::internal_from)
    }

    /// Keeps an answer, and forgets those that are old.
    fn keep<T: Serialize>(&self, draft: &mut Draft, answer: &T) -> Result<(), Refusal> {
        let now_ms = draft.now_ms();
        let over = |kept: &&std::sync::Arc<OnceRecord>| is_over(kept, now_ms);
        let old: Vec<String> = draft.state().once.values().filter(over).map(|kept| kept.id.clone()).collect();
        old.iter().for_each(|id| draft.delete::<OnceRecord>(id));
        let own = draft.state().once.values().filter(|kept| kept.sender == self.sender).count();
        if own >= KEPT_COUNT_MAX {
            let detail =
                format!("{KEPT_COUNT_MAX} answers under an Idempotency-Key are kept for you already, each for a day");
            return Err(Refusal::new(Kind::TooMany, detail));
        }
        let answer = serde_json::to_vec(answer).map_err(Refusal::internal_from)?;
        let (id, sender, request) = (self.id.clone(), self.sender.clone(), self.request.clone());
        draft.put(OnceRecord { id, sender, request, answer: self.close(answer), made_ms: now_ms });
        Ok(())
    }

    fn close(&self, mut answer: Vec<u8>) -> String {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the kernel gives random bytes");
        let sealed =
            self.key().seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut answer);
        sealed.expect("an answer is far shorter than what one key may encrypt");
        STANDARD.encode([nonce.as_slice(), &answer].concat())
    }

    fn open(&self, text: &str) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let (nonce, mut sealed) = (Nonce::try_assume_unique_for_key(nonce).ok()?, sealed.to_vec());
        self.key().open_in_place(nonce, Aad::empty(), &mut sealed).ok().map(|answer| answer.to_vec())
    }

    fn key(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.seal).expect("the key has the cipher's length"))
    }
}

/// Makes something, or answers as before if it was made under the same key.
pub(crate) fn make<T: Serialize + DeserializeOwned>(
    draft: &mut Draft,
    once: Option<&Once>,
    make: impl FnOnce(&mut Draft) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let Some(once) = once else { return make(draft) };
    if let Some(before) = once.find(draft.state(), draft.now_ms())? {
        return Ok(before);
    }
    let made = make(draft)?;
    once.keep(draft, &made)?;
    Ok(made)
}

fn is_over(kept: &OnceRecord, now_ms: u64) -> bool {
    now_ms.abs_diff(kept.made_ms) > KEPT_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn once(sender: &str, key: &str, body: &str) -> Option<Once> {
        let headers = [(KEY_HEADER, key.parse().unwrap())].into_iter().collect();
        Once::of(&headers, sender, "POST /x", body.as_bytes()).unwrap()
    }

    #[test]
    fn an_answer_is_given_again_for_a_day_to_who_had_it_and_for_the_same_request() {
        let mut draft = Draft::new(&Snapshot::default(), 1_000);
        let mut count = 0;
        let mut ask = |draft: &mut Draft, sender: &str, key: &str, body: &str| {
            make(draft, once(sender, key, body).as_ref(), |_| {
                count += 1;
                Ok(format!("secret {count}"))
            })
            .map_err(|refusal| refusal.detail().to_owned())
        };
        assert_eq!(ask(&mut draft, "access/a", KEY, "1").unwrap(), "secret 1");
        assert_eq!(ask(&mut draft, "access/a", KEY, "1").unwrap(), "secret 1");
        assert!(ask(&mut draft, "access/a", KEY, "2").unwrap_err().contains("another request"));
        assert_eq!(ask(&mut draft, "access/b", KEY, "2").unwrap(), "secret 2", "another's key is another");
        assert_eq!(ask(&mut draft, "access/a", &KEY.to_uppercase(), "1").unwrap(), "secret 3");
        draft.set_time(1_000 + KEPT_MS + 1);
        assert_eq!(ask(&mut draft, "access/a", KEY, "1").unwrap(), "secret 4");
        assert_eq!(draft.state().once.len(), 1, "what is over is forgotten");
        let stored = format!("{:?}", draft.state().once);
        assert!(!stored.contains("secret") && !stored.contains(KEY), "{stored}");
    }

    #[test]
    fn keys_that_are_easily_guessed_and_too_many_of_them_are_refused() {
        for bad in ["", "1", "fifteen-letters", &"x".repeat(256)] {
            let headers = [(KEY_HEADER, bad.parse().unwrap())].into_iter().collect();
            assert!(Once::of(&headers, "a", "POST /x", b"").is_err(), "{bad}");
        }
        assert!(Once::of(&HeaderMap::new(), "a", "POST /x", b"").unwrap().is_none());
        let mut draft = Draft::new(&Snapshot::default(), 1_000);
        let mut ask = |sender: &str, number: usize| {
            let once = once(sender, &format!("{KEY}{number}"), "").unwrap();
            make(&mut draft, Some(&once), |_| Ok(number)).is_ok()
        };
        assert!((0..KEPT_COUNT_MAX).all(|number| ask("a", number)));
        assert!(!ask("a", KEPT_COUNT_MAX) && ask("a", 0) && ask("b", KEPT_COUNT_MAX));
    }
}
