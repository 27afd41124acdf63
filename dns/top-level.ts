/**
 * Top-level domains of the internet after which people name networks. `docker network create app` must not take `cash.app` away from
 * containers: unknown names inside such a network are forwarded, as Docker does it, where others are answered NXDOMAIN at once.
 * Every name of two letters (and no digits) counts (RFC 1591 section 2: countries). Not complete: of IANA's list, those that a network may well be called.
 */
import { type NameKey, keyOf, labelsOf } from './name.ts';

const GENERIC = `academy agency ai ads app apps art audio audible auto bank bar beer best bet bike bio biz black blog blue
book boo bot box build business buy cab cafe call cam camera camp capital car cards care cars cash cat catering center chat
cheap church city click clinic cloud club coach codes coffee college com community company computer consulting contact
cool coop country courses credit data day deal dealer delivery design dev diamonds diet digital direct directory
discount doctor dog domains download drive earth eat edu education email energy engineer engineering enterprises equipment
esq estate events exchange expert express fail faith family fan farm fashion fast film finance financial fish fit flights
flowers fly foo food football forum foundation free fun fund furniture futbol fyi gallery game games garden gay gift gifts
glass global gmail gold golf google gov gratis green gripe group guide guitars guru hair haus health healthcare help here
hiphop hockey holdings holiday home homes horse hospital host hosting hot house how icu immo inc info ink institute insure
int international investments jobs joy kids kim kitchen land law lawyer lease legal lgbt life lighting limited limo link
live llc loan loans lol love ltd luxury maison makeup management map market marketing markets mba media meet memorial men menu
mil mobi moda mom money monster mov movie museum music name navy net network new news nexus ngo ninja now observer off one
onl online ooo open org page parts party pay pet phd phone photo photography photos pics pictures pid pin pink pizza place
play plumbing plus poker press prime pro prod productions prof promo properties property pub quest racing radio read
recipes red rent rentals repair report republican rest restaurant review reviews rich rip rocks room rsvp run safe sale
salon save school science search secure security select services shoes shop shopping show silk singles site ski skin
sky smile soccer social software solar solutions song space spa spot srl storage store stream studio study style sucks
supplies supply support surf surgery swiss systems talk tattoo tax taxi team tech technology tel tennis theater tickets
tips tires today tools top tours town toys trade trading training travel trust tube tunes university uno vacations
ventures vet video villas vin vip vision vodka vote voting voto voyage wang watch weather web website wed wedding wiki win
wine winners work works world wow wtf xyz yachts yoga you zero zip zone`;

const KEYS: ReadonlySet<NameKey> = new Set(GENERIC.split(/\s+/).map(keyOf));

export function isTopLevelDomain(key: NameKey): boolean {
  const labels = labelsOf(key);
  return labels.length === 1 && (/^[a-z]{2}$/.test(labels[0] ?? '') || KEYS.has(key));
}
