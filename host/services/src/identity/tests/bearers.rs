//! Tokens of issuers, signed as their keys' owners or somebody else would.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bulkhead_core::Resource;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::exchange::{Ask, GRANT_TYPE, JWT};
use super::*;

const ACME: &str = "https://id.acme.example/realm";
const GLOBEX: &str = "https://id.globex.example";

/// Whoever has the private key.
enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    /// The key of RFC 7515, appendix A.2.
    fn rsa() -> Self {
        let pem = include_str!("../../../../capabilities/src/credentials/sign/jwt/rfc7515-a2.pkcs8.pem");
        let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        Self::Rsa(RsaKeyPair::from_pkcs8(&STANDARD.decode(text).unwrap()).unwrap())
    }

    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(pair) => {
                let key = pair.public_key();
                let modulus = key.modulus().big_endian_without_leading_zero().to_vec();
                let exponent = key.exponent().big_endian_without_leading_zero().to_vec();
                json!({"kty": "RSA", "n": text(&modulus), "e": text(&exponent), "kid": kid})
            }
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]), "kid": kid})
            }
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": text(pair.public_key().as_ref()), "kid": kid})
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> SecretString {
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encoded(header), encoded(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
                signature
            }
            Self::P256(pair) => pair.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)).into()
    }

    /// A token of `issuer` for `subject`, that is good for five minutes from `now`.
    fn token(&self, issuer: &str, subject: &str, now: SystemTime) -> SecretString {
        self.sign(&json!({"alg": self.algorithm(), "kid": "1"}), &claims(issuer, subject, now))
    }
}

fn claims(issuer: &str, subject: &str, now: SystemTime) -> Value {
    json!({"iss": issuer, "sub": subject, "aud": "bulkhead", "exp": seconds(now) + 300, "iat": seconds(now)})
}

/// Publishes an issuer's configuration and keys.
fn publish(rig: &Rig, issuer: &str, keys: &[Value]) {
    let place = format!("{}/jwks", issuer.trim_end_matches('/'));
    let mut documents = rig.documents.by_url.lock().unwrap();
    documents.insert(
        format!("{issuer}/.well-known/openid-configuration"),
        json!({"issuer": issuer, "jwks_uri": place, "more": 1}).to_string().into_bytes(),
    );
    documents.insert(place, json!({"keys": keys}).to_string().into_bytes());
}

fn spec(url: &str, signer: &Signer) -> bearer::Spec {
    let algorithms = vec![serde_json::from_value(signer.algorithm().into()).unwrap()];
    let terms = bearer::Terms { audience: "bulkhead".to_owned(), algorithms, ..Default::default() };
    bearer::Spec { url: url.to_owned(), terms }
}

fn issuer_of(tenant: &str, name: &str) -> Resource {
    Resource::named(tenant.parse().unwrap(), name)
}

async fn trust(identity: &Identity, tenant: &str, url: &str, signer: &Signer) -> Result<(), Error> {
    let by = cleared_for(Permission::IssuerWrite, issuer_of(tenant, "idp"));
    identity.trust_issuer(by, spec(url, signer)).await.map(drop)
}

async fn register(identity: &Identity, name: &str, subject: &str, roles: &[Role]) -> Result<(), Error> {
    let spec = registered::Spec { issuer: "idp".parse().unwrap(), subject: subject.to_owned(), roles: roles.to_vec() };
    identity.register(cleared(Permission::IdentityWrite, name), spec).await.map(drop)
}

/// A host that trusts acme's issuer, which vouches for `ada` as `acme/identity/ada`.
async fn trusting(rig: &Rig, signer: &Signer) -> Identity {
    let identity = rig.start().await;
    publish(rig, ACME, &[signer.jwk("1")]);
    trust(&identity, "acme", ACME, signer).await.unwrap();
    register(&identity, "acme/identity/ada", "ada", &[Role::Operator]).await.unwrap();
    identity
}

#[tokio::test]
async fn a_registered_subject_of_a_trusted_issuer_is_somebody() {
    for signer in [Signer::rsa(), Signer::p256(), Signer::ed25519()] {
        let rig = Rig::new();
        let identity = trusting(&rig, &signer).await;
        let token = signer.token(ACME, "ada", rig.begin);
        let actor = shows(&identity, &token, rig.at(1)).await.unwrap();
        assert_eq!((actor.principal, actor.roles), (principal("acme/identity/ada"), vec![Role::Operator]));
        assert_eq!((actor.credential, actor.from), (Credential::Bearer("idp".to_owned()), rig.from));
        assert_eq!(shows(&identity, &token, rig.at(300 + 60)).await, Err(Unknown::Expired));
        assert_eq!(rig.documents.fetched.load(Ordering::Relaxed), 2, "its configuration and its keys, once");
        // Within the leeway it is somebody, and stands for nothing more.
        assert!(shows(&identity, &token, rig.at(330)).await.is_ok());
        let form = [("grant_type", GRANT_TYPE), ("subject_token", token.expose_secret()), ("subject_token_type", JWT)];
        assert!(identity.exchange(Ask::parse(form).unwrap(), Presented::default(), &rig.at(330)).await.is_err());
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_gets_the_one_answer() {
    let rig = Rig::new();
    let signer = Signer::p256();
    let identity = trusting(&rig, &signer).await;
    let header = json!({"alg": "ES256", "kid": "1"});
    let good = || claims(ACME, "ada", rig.begin);
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    assert!(shows(&identity, &signer.sign(&header, &good()), rig.at(0)).await.is_ok());
    let now = seconds(rig.begin);
    for claims in [
        with("iss", "https://evil.example".into()),
        with("iss", format!("{ACME}/").into()),
        with("iss", ACME.to_uppercase().into()),
        with("iss", json!([ACME])),
        with("aud", "another".into()),
        with("sub", "bob".into()),
        with("sub", "ADA".into()),
        with("sub", "ada ".into()),
        with("nbf", json!(now + 120)),
        with("exp", (now + 300).to_string().into()),
        with("exp", json!(1e300)),
        without("exp"),
        without("aud"),
        without("sub"),
        without("iss"),
    ] {
        let refused = shows(&identity, &signer.sign(&header, &claims), rig.at(0)).await;
        assert_eq!(refused, Err(Unknown::Invalid), "{claims}");
    }
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256", "kid": "1"}),
        json!({"alg": "RS256", "kid": "1"}),
        json!({"alg": "EdDSA", "kid": "1"}),
        json!({"alg": "ES256", "kid": "2"}),
        json!({"alg": "ES256", "kid": "../1"}),
        json!({"alg": "ES256", "kid": "1", "jku": "https://evil.example/jwks"}),
        json!({"alg": "ES256", "kid": "1", "jwk": Signer::p256().jwk("1")}),
        json!({"alg": "ES256", "kid": "1", "x5u": "https://evil.example/x"}),
        json!({"alg": "ES256", "kid": "1", "crit": ["b64"]}),
    ] {
        let refused = shows(&identity, &signer.sign(&header, &good()), rig.at(0)).await;
        assert_eq!(refused, Err(Unknown::Invalid), "{header}");
    }
    let somebody_else = Signer::p256().sign(&header, &good());
    assert_eq!(shows(&identity, &somebody_else, rig.at(0)).await, Err(Unknown::Invalid));
    let (recorded, text) = refusals(&identity, &Subject::Host).await;
    for reason in ["issuer-not-known", "signature", "claims", "not-known", "malformed"] {
        assert!(recorded.contains(&("bearer".to_owned(), reason.to_owned())), "{reason}");
    }
    assert!(!text.contains("eyJ"), "no token is in the log");
}

#[tokio::test]
async fn one_tenants_issuer_names_nobody_of_another_tenants() {
    let rig = Rig::new();
    let (ours, theirs) = (Signer::p256(), Signer::ed25519());
    let identity = trusting(&rig, &ours).await;
    publish(&rig, GLOBEX, &[theirs.jwk("1")]);
    trust(&identity, "globex", GLOBEX, &theirs).await.unwrap();
    register(&identity, "globex/identity/bob", "bob", &[Role::TenantAdmin]).await.unwrap();
    // Theirs vouches for our ada, under its own name and under ours.
    assert_eq!(shows(&identity, &theirs.token(GLOBEX, "ada", rig.begin), rig.at(0)).await, Err(Unknown::Invalid));
    assert_eq!(shows(&identity, &theirs.token(ACME, "ada", rig.begin), rig.at(0)).await, Err(Unknown::Invalid));
    assert_eq!(shows(&identity, &ours.token(ACME, "bob", rig.begin), rig.at(0)).await, Err(Unknown::Invalid));
    let bob = shows(&identity, &theirs.token(GLOBEX, "bob", rig.begin), rig.at(0)).await.unwrap();
    assert_eq!(bob.principal, principal("globex/identity/bob"));
    // An address is one tenant's, and a subject one identity.
    let again =
        identity.trust_issuer(cleared_for(Permission::IssuerWrite, issuer_of("globex", "ours")), spec(ACME, &ours));
    assert!(matches!(again.await, Err(Error::Exists(_))));
    assert!(matches!(register(&identity, "acme/identity/eve", "ada", &[]).await, Err(Error::Exists(_))));
    assert!(matches!(register(&identity, "initech/identity/ada", "ada", &[]).await, Err(Error::NotFound("issuer"))));
}

#[tokio::test]
async fn who_is_kept_out_or_no_longer_vouched_for_is_out_with_their_tokens() {
    let rig = Rig::new();
    let signer = Signer::p256();
    let identity = trusting(&rig, &signer).await;
    let token = signer.token(ACME, "ada", rig.begin);
    let exchange = async |seen: Seen<'_>| {
        let form = [("grant_type", GRANT_TYPE), ("subject_token", token.expose_secret()), ("subject_token_type", JWT)];
        identity.exchange(Ask::parse(form).unwrap(), Presented::default(), &seen).await
    };
    let made = exchange(rig.at(0)).await.unwrap();
    assert_eq!(made.expires_in, 300, "no longer than what it stands for");
    assert!(shows(&identity, &made.token, rig.at(1)).await.is_ok());
    let update = async |disabled| {
        let update = registered::Update { disabled: Some(disabled), ..Default::default() };
        identity
            .update_registered(cleared(Permission::IdentityWrite, "acme/identity/ada"), None, update)
            .await
            .unwrap();
    };
    update(true).await;
    for shown in [&token, &made.token] {
        assert_eq!(shows(&identity, shown, rig.at(2)).await, Err(Unknown::Invalid));
    }
    update(false).await;
    assert!(shows(&identity, &made.token, rig.at(2)).await.is_ok());
    let by = cleared_for(Permission::IssuerWrite, issuer_of("acme", "idp"));
    identity.distrust_issuer(by).await.unwrap();
    for shown in [&token, &made.token] {
        assert_eq!(shows(&identity, shown, rig.at(3)).await, Err(Unknown::Invalid));
    }
    // Another issuer of that name later does not revive what stood for the first.
    trust(&identity, "acme", ACME, &signer).await.unwrap();
    assert_eq!(shows(&identity, &made.token, rig.at(4)).await, Err(Unknown::Invalid));
    assert!(shows(&identity, &token, rig.at(4)).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_is_changed_keeps_its_identities_and_nothing_that_was_known_by_it() {
    let rig = Rig::new();
    let (old, new) = (Signer::p256(), Signer::ed25519());
    let identity = trusting(&rig, &old).await;
    let token = old.token(ACME, "ada", rig.begin);
    let form = [("grant_type", GRANT_TYPE), ("subject_token", token.expose_secret()), ("subject_token_type", JWT)];
    let made = identity.exchange(Ask::parse(form).unwrap(), Presented::default(), &rig.at(0)).await.unwrap();
    for shown in [&token, &made.token] {
        shows(&identity, shown, rig.at(1)).await.unwrap();
    }
    let change = async |revision, signer: &Signer| {
        let terms = spec(ACME, signer).terms;
        let by = cleared_for(Permission::IssuerWrite, issuer_of("acme", "idp"));
        identity.update_issuer(by, Some(revision), terms).await
    };
    let read = cleared_for(Permission::IssuerRead, issuer_of("acme", "idp"));
    let first = identity.get_issuer(&read).await.unwrap().revision;
    assert!(matches!(change(first + 7, &new).await, Err(Error::Changed)));
    publish(&rig, ACME, &[new.jwk("1")]);
    let changed = change(first, &new).await.unwrap();
    assert_eq!((changed.revision, changed.record.url.as_str()), (first + 1, ACME));
    for shown in [&token, &made.token] {
        assert_eq!(shows(&identity, shown, rig.at(2)).await, Err(Unknown::Invalid), "at once");
    }
    let actor = shows(&identity, &new.token(ACME, "ada", rig.begin), rig.at(2)).await.unwrap();
    assert_eq!((actor.principal, actor.roles), (principal("acme/identity/ada"), vec![Role::Operator]));
    // With nothing changed, its keys are fetched anew all the same.
    publish(&rig, ACME, &[]);
    change(first + 1, &new).await.unwrap();
    assert!(shows(&identity, &new.token(ACME, "ada", rig.begin), rig.at(3)).await.is_err());
}

/// Whoever names the keys of an issuer signs as all for whom it vouches, also where they trust another one under its name.
#[tokio::test]
async fn who_holds_less_than_an_issuers_identities_says_nothing_of_that_issuer() {
    let rig = Rig::new();
    let signer = Signer::p256();
    let identity = trusting(&rig, &signer).await;
    let by = |role| clearance_of("acme/user/low", role, Permission::IssuerWrite, issuer_of("acme", "idp"));
    let change = async |role| {
        let keys = Some("https://keys.evil.example/jwks".to_owned());
        let terms = bearer::Terms { keys, ..spec(ACME, &signer).terms };
        identity.update_issuer(by(role), None, terms).await.map(drop)
    };
    assert!(matches!(change(Role::EndUser).await, Err(Error::Refused(_))));
    change(Role::TenantAdmin).await.unwrap();
    assert!(matches!(identity.distrust_issuer(by(Role::EndUser)).await, Err(Error::Refused(_))));
    identity.distrust_issuer(by(Role::TenantAdmin)).await.unwrap();
    let again = identity.trust_issuer(by(Role::EndUser), spec(ACME, &signer)).await;
    assert!(matches!(again, Err(Error::Refused(_))));
}

#[tokio::test]
async fn the_issuer_of_the_last_admin_cannot_go_and_whose_issuer_is_gone_is_no_admin() {
    let rig = Rig::new();
    let signer = Signer::p256();
    let identity = rig.start().await;
    publish(&rig, ACME, &[signer.jwk("1")]);
    trust(&identity, "platform", ACME, &signer).await.unwrap();
    for name in ["root", "root2"] {
        register(&identity, &format!("platform/identity/{name}"), name, &[Role::PlatformAdmin]).await.unwrap();
    }
    let by = || cleared_for(Permission::IssuerWrite, issuer_of("platform", "idp"));
    assert!(matches!(identity.distrust_issuer(by()).await, Err(Error::LastAdmin)));
    shows(&identity, &signer.token(ACME, "root", rig.begin), rig.at(1)).await.unwrap();
    let other = "platform/service-account/other";
    account(&identity, other, &[Role::PlatformAdmin]).await;
    identity.distrust_issuer(by()).await.unwrap();
    let gone = identity.delete_account(cleared(Permission::ServiceAccountDelete, other)).await;
    assert!(matches!(gone, Err(Error::LastAdmin)), "{gone:?}");
}

#[tokio::test]
async fn keys_that_an_issuer_changes_are_fetched_within_a_minute() {
    let rig = Rig::new();
    let (old, new) = (Signer::p256(), Signer::p256());
    let identity = trusting(&rig, &old).await;
    assert!(shows(&identity, &old.token(ACME, "ada", rig.begin), rig.at(0)).await.is_ok());
    publish(&rig, ACME, &[new.jwk("2")]);
    let by_new = new.sign(&json!({"alg": "ES256", "kid": "2"}), &claims(ACME, "ada", rig.begin));
    assert_eq!(shows(&identity, &by_new, rig.at(31)).await, Err(Unknown::Invalid));
    assert!(shows(&identity, &by_new, rig.at(61)).await.is_ok());
    assert_eq!(
        shows(&identity, &old.token(ACME, "ada", rig.begin), rig.at(62)).await,
        Err(Unknown::Invalid),
        "withdrawn"
    );
}

#[tokio::test]
async fn keys_come_from_the_issuers_own_address_or_where_its_record_says() {
    let rig = Rig::new();
    let signer = Signer::p256();
    let identity = trusting(&rig, &signer).await;
    let token = signer.token(ACME, "ada", rig.begin);
    let configuration = format!("{ACME}/.well-known/openid-configuration");
    for said in [
        json!({"issuer": ACME, "jwks_uri": "https://evil.example/jwks"}),
        json!({"issuer": ACME, "jwks_uri": "http://id.acme.example/realm/jwks"}),
        json!({"issuer": ACME, "jwks_uri": "https://id.acme.example:8443/realm/jwks"}),
        json!({"issuer": GLOBEX, "jwks_uri": format!("{ACME}/jwks")}),
        json!({"issuer": ACME}),
    ] {
        rig.documents.by_url.lock().unwrap().insert(configuration.clone(), said.to_string().into_bytes());
        identity.forget_tenant(&"acme".parse().unwrap());
        assert_eq!(shows(&identity, &token, rig.at(0)).await, Err(Unknown::Unavailable), "{said}");
    }
    let elsewhere = "https://keys.acme.example/jwks";
    let keys = json!({"keys": [signer.jwk("1")]}).to_string().into_bytes();
    rig.documents.by_url.lock().unwrap().insert(elsewhere.to_owned(), keys);
    identity.distrust_issuer(cleared_for(Permission::IssuerWrite, issuer_of("acme", "idp"))).await.unwrap();
    let mut spec = spec(ACME, &signer);
    spec.terms.keys = Some(elsewhere.to_owned());
    identity.trust_issuer(cleared_for(Permission::IssuerWrite, issuer_of("acme", "idp")), spec).await.unwrap();
    assert!(shows(&identity, &token, rig.at(0)).await.is_ok());
}

/// An issuer on loopback that gives each of these answers to one who asks.
async fn upstream(answers: Vec<String>) -> u16 {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") && socket.read_buf(&mut seen).await.unwrap() > 0 {}
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn the_gate_asks_an_issuer_with_addresses_of_its_own_and_follows_nothing() {
    use bearer::Fetch as _;
    use bulkhead_capabilities::egress::{Resolver, Transport};
    let ok =
        |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let moved = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let large = ok(&"x".repeat(300 * 1024));
    let port = upstream(vec![ok("{}"), moved.to_owned(), large]).await;
    let transport = Transport::new(Resolver::system(Vec::new()).unwrap(), []).unwrap();
    let gate = bearer::Gate::new(Arc::new(transport));
    let target = bulkhead_core::egress::Target::parse("http", &format!("127.0.0.1:{port}"), "/jwks").unwrap();
    let guarded = bearer::Source { target: target.clone(), addresses: Vec::new() };
    assert!(gate.fetch(&guarded).await.is_err(), "loopback is nobody's unless it is named");
    let source = bearer::Source { target, addresses: vec!["127.0.0.0/8".to_owned()] };
    assert_eq!(gate.fetch(&source).await.unwrap(), b"{}");
    assert!(gate.fetch(&source).await.unwrap_err().to_string().contains("302"));
    assert!(gate.fetch(&source).await.is_err(), "more than a quarter of a megabyte");
}
