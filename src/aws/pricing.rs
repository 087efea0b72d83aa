//! What an instance costs.
//!
//! Owns the question to the Pricing API and the reading of its answer, in which every product is a JSON text within the
//! JSON. Unknown stays unknown: no product, or two that disagree, is no price. Called before a run and by the matrix.

use serde_json::{Value, json};

use super::error::{Error, Kind};
use super::session::{Body, Call, Session};

/// All filters together leave one product: more pages than that are empty.
const MOST_PAGES: usize = 20;

/// On-demand price of Linux on shared hardware.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// Dollars per hour.
    pub usd_per_hour: f64,
    /// The list's publication date as the API tells it; empty when it doesn't.
    pub date: String,
}

impl Session {
    /// The price in this region; `None` when the list has none.
    pub async fn price(&self, instance_type: &str) -> Result<Option<Price>, Error> {
        let action = "pricing:GetProducts";
        let filters: Vec<Value> = [
            ("instanceType", instance_type),
            ("regionCode", self.region()),
            ("operatingSystem", "Linux"),
            ("tenancy", "Shared"),
            ("preInstalledSw", "NA"),
            ("capacitystatus", "Used"),
            ("marketoption", "OnDemand"),
        ]
        .iter()
        .map(|(field, value)| json!({ "Type": "TERM_MATCH", "Field": field, "Value": value }))
        .collect();
        let (mut found, mut token) = (None, None);
        for _ in 0..MOST_PAGES {
            let mut question = json!({
                "ServiceCode": "AmazonEC2",
                "Filters": filters,
                "FormatVersion": "aws_v1",
                "MaxResults": 10,
            });
            if let (Some(fields), Some(token)) = (question.as_object_mut(), token) {
                fields.insert("NextToken".to_owned(), Value::String(token));
            }
            let text = question.to_string();
            let body = Body::Json {
                target: "AWSPriceListService.GetProducts",
                text: &text,
            };
            let answer = self.call(Call { action, body }).await?;
            let (price, next) =
                read(&answer, found).map_err(|why| Error::new(action, Kind::Answer, why))?;
            (found, token) = (price, next);
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

/// The one price in an answer of `GetProducts` and those before it, and where to go on. A page may be empty and not the
/// last.
fn read(answer: &str, mut found: Option<Price>) -> Result<(Option<Price>, Option<String>), String> {
    let answer: Value = serde_json::from_str(answer).map_err(|error| error.to_string())?;
    let next = answer.get("NextToken").and_then(Value::as_str);
    let next = next.filter(|token| !token.is_empty()).map(str::to_owned);
    for product in answer
        .get("PriceList")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let product: Value = match product.as_str() {
            Some(text) => serde_json::from_str(text).map_err(|error| error.to_string())?,
            None => product.clone(),
        };
        let date = product
            .get("publicationDate")
            .and_then(Value::as_str)
            .unwrap_or_default();
        for usd_per_hour in hourly(&product) {
            match &found {
                Some(price) if (price.usd_per_hour - usd_per_hour).abs() > f64::EPSILON => {
                    return Err(format!(
                        "two prices, {} and {usd_per_hour}",
                        price.usd_per_hour
                    ));
                }
                Some(_) => {}
                None => {
                    found = Some(Price {
                        usd_per_hour,
                        date: date.to_owned(),
                    });
                }
            }
        }
    }
    Ok((found, next))
}

/// Prices per hour of a product; a price of nothing belongs to reservations.
fn hourly(product: &Value) -> Vec<f64> {
    let values = |value: &Value| -> Vec<Value> {
        value
            .as_object()
            .map(|object| object.values().cloned().collect())
            .unwrap_or_default()
    };
    let terms = product
        .pointer("/terms/OnDemand")
        .map(values)
        .unwrap_or_default();
    terms
        .iter()
        .filter_map(|term| term.get("priceDimensions"))
        .flat_map(values)
        .filter(|dimension| {
            dimension
                .get("unit")
                .and_then(Value::as_str)
                .is_some_and(|unit| unit.eq_ignore_ascii_case("hrs"))
        })
        .filter_map(|dimension| {
            dimension
                .pointer("/pricePerUnit/USD")?
                .as_str()?
                .parse()
                .ok()
        })
        .filter(|price: &f64| price.is_finite() && *price > 0.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(price: &str) -> String {
        json!({
            "product": { "attributes": { "instanceType": "t3.medium" } },
            "terms": { "OnDemand": { "A.B": { "priceDimensions": { "A.B.C": {
                "unit": "Hrs", "pricePerUnit": { "USD": price },
            } } } } },
            "publicationDate": "2026-11-01T00:00:00Z",
        })
        .to_string()
    }

    #[test]
    fn a_price_is_read_from_the_text_within() {
        let answer = json!({ "PriceList": [product("0.0456000000"), product("0.0456")] });
        let expected = Price {
            usd_per_hour: 0.0456,
            date: "2026-11-01T00:00:00Z".to_owned(),
        };
        let read_all = |found| read(&answer.to_string(), found).unwrap();
        assert_eq!(read_all(None), (Some(expected.clone()), None));
        let empty = r#"{"PriceList":[],"NextToken":"on"}"#;
        let (found, next) = read(empty, Some(expected.clone())).unwrap();
        assert_eq!((found, next.as_deref()), (Some(expected), Some("on")));
    }

    #[test]
    fn no_price_is_none_and_two_are_an_error() {
        let read = |text: &str| read(text, None).map(|(found, _)| found);
        assert_eq!(read(r#"{"PriceList":[]}"#).unwrap(), None);
        let free = json!({ "PriceList": [product("0.0000000000")] });
        assert_eq!(read(&free.to_string()).unwrap(), None);
        let two = json!({ "PriceList": [product("0.1"), product("0.2")] });
        assert!(read(&two.to_string()).unwrap_err().contains("two prices"));
        assert!(read("[").is_err());
    }
}
