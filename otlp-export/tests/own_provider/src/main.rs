//! What happens without ring: https is refused by name, unless the host passes cryptography, or has installed some.
//! Without TLS it is refused in any case.

#[cfg(feature = "tls")]
mod own;

use otlp_export::client::OtlpClient;

fn main() {
    let error = OtlpClient::builder().endpoint("https://localhost:4318").build().expect_err("it cannot be kept secret");
    let error = error.to_string();
    for word in ["endpoint: ", "https://localhost:4318", "`ring`"] {
        assert!(error.contains(word), "{error}");
    }
    println!("{error}");
    OtlpClient::builder().endpoint("http://localhost:4318").build().expect("http needs none");
    #[cfg(feature = "tls")]
    own::run(&error);
}
