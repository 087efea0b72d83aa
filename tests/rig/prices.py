"""The Pricing API of the rig: `GetProducts`, in the real one's form.

Owns a small list of products as AWS's own has them, several for each instance type, of which only all
filters together leave one; and what is refused: another region than the API has, a product code or a filter
that it does not know.
"""

from __future__ import annotations

import json
from itertools import product

REGIONS = ("us-east-1", "eu-central-1", "ap-south-1")
PUBLISHED = "2026-11-01T00:00:00Z"
# Dollars per hour of Linux on shared hardware in eu-west-1; the other products cost more, or nothing.
HOURLY = {"t3.medium": 0.0456, "t3.small": 0.0228, "c8g.large": 0.0870}
REGION_FACTORS = {"eu-west-1": 1.0, "us-east-1": 0.9}
# Each with what it adds to the price.
VARIANTS = {
    "operatingSystem": {"Linux": 0.0, "Windows": 0.0184, "RHEL": 0.06},
    "tenancy": {"Shared": 0.0, "Dedicated": 0.01},
    "preInstalledSw": {"NA": 0.0, "SQL Web": 0.068},
    "capacitystatus": {"Used": 0.0, "AllocatedCapacityReservation": None, "UnusedCapacityReservation": 0.0},
}
MOST_RESULTS = 100


class Refused(ValueError):
    """What the API answers with 400; the text is its message."""


def _products() -> list[dict]:
    found = []
    for name, region in product(HOURLY, REGION_FACTORS):
        for values in product(*VARIANTS.values()):
            attributes = dict(zip(VARIANTS, values, strict=True))
            extras = [VARIANTS[field][value] for field, value in attributes.items()]
            price = 0.0 if None in extras else HOURLY[name] * REGION_FACTORS[region] + sum(extras)
            attributes |= {
                "instanceType": name,
                "regionCode": region,
                "marketoption": "OnDemand",
                "servicecode": "AmazonEC2",
                "locationType": "AWS Region",
                "licenseModel": "No License required",
            }
            found.append({"attributes": attributes, "price": price})
    return found


PRODUCTS = _products()
FIELDS = set(PRODUCTS[0]["attributes"])


def _listed(number: int, attributes: dict[str, str], price: float) -> str:
    sku = f"RIG{number:013d}"
    offer = f"{sku}.JRTCKXETXF"
    rate = f"{offer}.6YS6EN2CT7"
    kind, system = attributes["instanceType"], attributes["operatingSystem"]
    dimension = {
        "unit": "Hrs",
        "endRange": "Inf",
        "description": f"${price} per On Demand {system} {kind} Instance Hour",
        "appliesTo": [],
        "rateCode": rate,
        "beginRange": "0",
        "pricePerUnit": {"USD": f"{price:.10f}"},
    }
    term = {
        "priceDimensions": {rate: dimension},
        "sku": sku,
        "effectiveDate": PUBLISHED,
        "offerTermCode": "JRTCKXETXF",
        "termAttributes": {},
    }
    upfront = dict(dimension, unit="Quantity", pricePerUnit={"USD": "250"})
    reserved = dict(term, priceDimensions={f"{sku}.38NPMPTW36.2TG2D8R56U": upfront})
    return json.dumps(
        {
            "product": {"productFamily": "Compute Instance", "attributes": attributes, "sku": sku},
            "serviceCode": "AmazonEC2",
            "terms": {"OnDemand": {offer: term}, "Reserved": {f"{sku}.38NPMPTW36": reserved}},
            "version": "20261101000000",
            "publicationDate": PUBLISHED,
        }
    )


def get_products(request: dict, region: str) -> dict:
    """The answer to a request that was signed for that region; :class:`Refused` where there is none."""
    if region not in REGIONS:
        raise Refused(f"the Pricing API is not in {region}")
    if request.get("ServiceCode") != "AmazonEC2":
        raise Refused("unknown service code")
    if not 1 <= request.get("MaxResults", MOST_RESULTS) <= MOST_RESULTS:
        raise Refused("MaxResults: 1 to 100")
    filters = request.get("Filters", [])
    unknown = [one["Field"] for one in filters if one["Type"] != "TERM_MATCH" or one["Field"] not in FIELDS]
    if unknown:
        raise Refused(f"unknown filters: {unknown}")
    listed = [
        _listed(number, one["attributes"], one["price"])
        for number, one in enumerate(PRODUCTS)
        if all(one["attributes"][filter["Field"]] == filter["Value"] for filter in filters)
    ]
    return {"FormatVersion": "aws_v1", "PriceList": listed[: request.get("MaxResults", MOST_RESULTS)]}
