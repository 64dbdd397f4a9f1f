// The lines of README.md, "Link it"; a test compares them and runs them.
use otlp_export::client::OtlpClient;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = OtlpClient::from_env(|name| std::env::var(name).ok()).service("shop").build()?;
    let order = client.send_trace("order").with_attribute("customer", "4711");
    client.send_trace("pay").with_parent(order.context()).with_numeric_attribute("cents", 1250).finish();
    client.send_log("paid").with_span(order.context()).finish();
    order.finish();
    client.shutdown(std::time::Duration::from_secs(2))?;
    Ok(())
}
