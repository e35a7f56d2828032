"""The facts of `tasks.facts`, written down by hand: each is common knowledge and has one answer.

An entry is "question: answer"; entries are separated by semicolons. Where more than one answer is
right, they are separated by slashes, the usual one first, which shots show. Left out are facts that
are disputed or have changed of late (capitals that moved, countries with several capitals), and
words whose form depends on the sense.
"""

CAPITALS = """
Afghanistan: Kabul; Albania: Tirana; Algeria: Algiers; Angola: Luanda; Argentina: Buenos Aires;
Armenia: Yerevan; Australia: Canberra; Austria: Vienna; Azerbaijan: Baku; Bahrain: Manama;
Bangladesh: Dhaka; Barbados: Bridgetown; Belarus: Minsk; Belgium: Brussels; Belize: Belmopan;
Bhutan: Thimphu; Botswana: Gaborone; Brazil: Brasilia/Brasília; Bulgaria: Sofia;
Burkina Faso: Ouagadougou; Cambodia: Phnom Penh; Cameroon: Yaounde/Yaoundé; Canada: Ottawa;
Chad: N'Djamena/Ndjamena; Chile: Santiago; China: Beijing; Colombia: Bogota/Bogotá;
Costa Rica: San Jose/San José; Croatia: Zagreb; Cuba: Havana; Cyprus: Nicosia;
the Czech Republic: Prague; Denmark: Copenhagen; Ecuador: Quito; Egypt: Cairo;
El Salvador: San Salvador; Eritrea: Asmara; Estonia: Tallinn; Ethiopia: Addis Ababa; Fiji: Suva;
Finland: Helsinki; France: Paris; Gabon: Libreville; Gambia: Banjul; Georgia: Tbilisi;
Germany: Berlin; Ghana: Accra; Greece: Athens; Guatemala: Guatemala City; Guinea: Conakry;
Guyana: Georgetown; Haiti: Port-au-Prince; Honduras: Tegucigalpa; Hungary: Budapest;
Iceland: Reykjavik/Reykjavík; India: New Delhi; Iran: Tehran; Iraq: Baghdad; Ireland: Dublin;
Italy: Rome; Jamaica: Kingston; Japan: Tokyo; Jordan: Amman; Kenya: Nairobi; Kuwait: Kuwait City;
Laos: Vientiane; Latvia: Riga; Lebanon: Beirut; Liberia: Monrovia; Libya: Tripoli;
Lithuania: Vilnius; Madagascar: Antananarivo; Malawi: Lilongwe; Malaysia: Kuala Lumpur;
the Maldives: Male/Malé; Mali: Bamako; Malta: Valletta; Mauritania: Nouakchott;
Mauritius: Port Louis; Mexico: Mexico City; Moldova: Chisinau/Chișinău; Mongolia: Ulaanbaatar;
Montenegro: Podgorica; Morocco: Rabat; Mozambique: Maputo; Namibia: Windhoek; Nepal: Kathmandu;
the Netherlands: Amsterdam; New Zealand: Wellington; Nicaragua: Managua; Niger: Niamey;
Nigeria: Abuja; North Korea: Pyongyang; North Macedonia: Skopje; Norway: Oslo; Oman: Muscat;
Pakistan: Islamabad; Panama: Panama City; Papua New Guinea: Port Moresby;
Paraguay: Asuncion/Asunción; Peru: Lima; the Philippines: Manila; Poland: Warsaw; Portugal: Lisbon;
Qatar: Doha; Romania: Bucharest; Russia: Moscow; Rwanda: Kigali; Saudi Arabia: Riyadh;
Senegal: Dakar; Serbia: Belgrade; Sierra Leone: Freetown; Slovakia: Bratislava; Slovenia: Ljubljana;
Somalia: Mogadishu; South Korea: Seoul; Spain: Madrid; Sudan: Khartoum; Suriname: Paramaribo;
Sweden: Stockholm; Switzerland: Bern/Berne; Syria: Damascus; Tajikistan: Dushanbe;
Thailand: Bangkok; Togo: Lome/Lomé; Tunisia: Tunis; Turkey: Ankara; Turkmenistan: Ashgabat;
Uganda: Kampala; Ukraine: Kyiv/Kiev; the United Arab Emirates: Abu Dhabi;
the United Kingdom: London; the United States: Washington; Uruguay: Montevideo;
Uzbekistan: Tashkent; Venezuela: Caracas; Vietnam: Hanoi; Zambia: Lusaka; Zimbabwe: Harare
"""

CONTINENTS = """
Afghanistan: Asia; Albania: Europe; Algeria: Africa; Angola: Africa; Argentina: South America;
Austria: Europe; Bangladesh: Asia; Belgium: Europe; Bhutan: Asia; Bolivia: South America;
Botswana: Africa; Brazil: South America; Bulgaria: Europe; Cambodia: Asia; Cameroon: Africa;
Canada: North America; Chad: Africa; Chile: South America; China: Asia; Colombia: South America;
Croatia: Europe; Cuba: North America; the Czech Republic: Europe; Denmark: Europe;
Ecuador: South America; Estonia: Europe; Ethiopia: Africa; Finland: Europe; France: Europe;
Gabon: Africa; Germany: Europe; Ghana: Africa; Greece: Europe; Guinea: Africa;
Guyana: South America; Hungary: Europe; Iceland: Europe; India: Asia; Iran: Asia; Iraq: Asia;
Ireland: Europe; Italy: Europe; Japan: Asia; Jordan: Asia; Kenya: Africa; Kuwait: Asia; Laos: Asia;
Latvia: Europe; Lebanon: Asia; Liberia: Africa; Libya: Africa; Lithuania: Europe;
Luxembourg: Europe; Madagascar: Africa; Malawi: Africa; Malaysia: Asia; Mali: Africa; Malta: Europe;
Mexico: North America; Mongolia: Asia; Morocco: Africa; Mozambique: Africa; Myanmar: Asia;
Namibia: Africa; Nepal: Asia; the Netherlands: Europe; Niger: Africa; Nigeria: Africa;
North Korea: Asia; Norway: Europe; Oman: Asia; Pakistan: Asia; Paraguay: South America;
Peru: South America; the Philippines: Asia; Poland: Europe; Portugal: Europe; Qatar: Asia;
Romania: Europe; Rwanda: Africa; Saudi Arabia: Asia; Senegal: Africa; Serbia: Europe;
Slovakia: Europe; Slovenia: Europe; Somalia: Africa; South Africa: Africa; South Korea: Asia;
Spain: Europe; Sudan: Africa; Suriname: South America; Sweden: Europe; Switzerland: Europe;
Syria: Asia; Tanzania: Africa; Thailand: Asia; Togo: Africa; Tunisia: Africa; Uganda: Africa;
Ukraine: Europe; the United Kingdom: Europe; the United States: North America;
Uruguay: South America; Uzbekistan: Asia; Venezuela: South America; Vietnam: Asia; Yemen: Asia;
Zambia: Africa; Zimbabwe: Africa
"""

ANTONYMS = """
hot: cold/cool; big: small/little; long: short; fast: slow; happy: sad/unhappy; rich: poor;
strong: weak; high: low; wide: narrow; deep: shallow; dark: light/bright; early: late;
open: closed/close/shut; full: empty; heavy: light; clean: dirty/unclean; dry: wet;
loud: quiet/soft/silent; thick: thin; sharp: dull/blunt; up: down; in: out; left: right; near: far;
above: below; before: after; inside: outside; front: back/rear; top: bottom; first: last;
always: never; everything: nothing; day: night; summer: winter; north: south; east: west;
love: hate/hatred; war: peace; life: death; friend: enemy/foe; win: lose; buy: sell;
give: take/receive; push: pull; start: stop/end/finish; begin: end/finish/stop;
arrive: leave/depart; remember: forget; laugh: cry; rise: fall/set; increase: decrease/reduce;
accept: reject/refuse/decline; succeed: fail; build: destroy/demolish; export: import;
expand: contract/shrink; include: exclude; appear: disappear/vanish; agree: disagree;
possible: impossible; legal: illegal; polite: rude/impolite; patient: impatient; visible: invisible;
safe: dangerous/unsafe; cheap: expensive/costly; simple: complex/complicated/difficult;
easy: difficult/hard; beautiful: ugly; guilty: innocent; ancient: modern; public: private;
positive: negative; male: female; minimum: maximum; major: minor; internal: external;
maximum: minimum; strength: weakness; question: answer; profit: loss; entrance: exit; husband: wife;
smooth: rough; tight: loose; straight: crooked/curved/bent; alive: dead; awake: asleep;
absent: present; generous: selfish/stingy/greedy; humble: proud/arrogant; noisy: quiet/silent;
sweet: sour/bitter; permanent: temporary; horizontal: vertical; optimist: pessimist;
wise: foolish/unwise; cruel: kind; shallow: deep; narrow: wide/broad; winter: summer;
slow: fast/quick; weak: strong; cold: hot/warm; sad: happy/glad; low: high; wet: dry; dirty: clean;
late: early; outside: inside; down: up; sell: buy/purchase; lose: win/find/gain; death: life/birth;
bottom: top
"""

PAST_TENSES = """
go: went; see: saw; eat: ate; take: took; give: gave; make: made; come: came; know: knew;
think: thought; find: found; tell: told; feel: felt; leave: left; bring: brought; buy: bought;
catch: caught; teach: taught; fight: fought; sleep: slept; keep: kept; meet: met; lose: lost;
sell: sold; send: sent; spend: spent; build: built; hear: heard; hold: held; stand: stood;
understand: understood; win: won; run: ran; begin: began; swim: swam; sing: sang; drink: drank;
ring: rang; break: broke; speak: spoke; steal: stole; choose: chose; freeze: froze; write: wrote;
drive: drove; ride: rode; rise: rose; fly: flew; grow: grew; throw: threw; blow: blew; draw: drew;
fall: fell; forget: forgot; forgive: forgave; hide: hid; bite: bit; shake: shook; wear: wore;
tear: tore; become: became; say: said; pay: paid; have: had; do: did; sit: sat; dig: dug;
stick: stuck; strike: struck; swing: swung; feed: fed; lead: led; shoot: shot; slide: slid;
wake: woke; bend: bent; lend: lent; mean: meant; deal: dealt; seek: sought; sweep: swept;
weep: wept; creep: crept; bind: bound; grind: ground; swear: swore; bleed: bled; breed: bred;
walk: walked; talk: talked; play: played; work: worked; call: called; look: looked; ask: asked;
help: helped; want: wanted; start: started; open: opened; close: closed; wash: washed;
watch: watched; clean: cleaned; cook: cooked; jump: jumped; laugh: laughed; listen: listened;
live: lived; love: loved; move: moved; need: needed; paint: painted; push: pushed; pull: pulled;
rain: rained; smile: smiled; study: studied; cry: cried; try: tried; carry: carried; marry: married;
stop: stopped; plan: planned; drop: dropped; dance: danced; bake: baked; believe: believed;
arrive: arrived; visit: visited; wait: waited; turn: turned; use: used; thank: thanked;
travel: traveled/travelled; worry: worried; hurry: hurried; invite: invited; hope: hoped;
answer: answered; agree: agreed; shout: shouted; climb: climbed; touch: touched
"""

FRENCH = """
dog: chien; cat: chat; horse: cheval; cow: vache; bird: oiseau; fish: poisson; mouse: souris;
pig: cochon/porc; sheep: mouton; rabbit: lapin; house: maison; door: porte; window: fenêtre;
chair: chaise; bed: lit; kitchen: cuisine; garden: jardin; street: rue; city: ville; school: école;
church: église; hospital: hôpital; car: voiture; boat: bateau; plane: avion;
bicycle: vélo/bicyclette; bread: pain; water: eau; milk: lait; cheese: fromage; wine: vin;
meat: viande; egg: oeuf/œuf; salt: sel; sugar: sucre; butter: beurre; apple: pomme;
strawberry: fraise; potato: pomme de terre; red: rouge; blue: bleu; green: vert; yellow: jaune;
black: noir; white: blanc; one: un; two: deux; three: trois; four: quatre; five: cinq; six: six;
seven: sept; eight: huit; nine: neuf; ten: dix; twenty: vingt; hundred: cent; thousand: mille;
man: homme; woman: femme; child: enfant; boy: garçon; girl: fille; father: père; mother: mère;
brother: frère; sister: soeur/sœur; son: fils; friend: ami/amie; king: roi; queen: reine;
head: tête; hand: main; foot: pied; eye: oeil/œil; nose: nez; mouth: bouche; heart: coeur/cœur;
arm: bras; day: jour; night: nuit; week: semaine; year: an/année; morning: matin; evening: soir;
Monday: lundi; Tuesday: mardi; Wednesday: mercredi; Thursday: jeudi; Friday: vendredi;
Saturday: samedi; Sunday: dimanche; sun: soleil; moon: lune; star: étoile; sky: ciel; sea: mer;
mountain: montagne; river: rivière/fleuve; tree: arbre; flower: fleur; fire: feu; rain: pluie;
snow: neige; wind: vent; book: livre; pen: stylo; paper: papier; knife: couteau; spoon: cuillère;
key: clé/clef; hat: chapeau; shoe: chaussure; shirt: chemise; dress: robe; money: argent;
love: amour; life: vie; death: mort; world: monde; war: guerre; peace: paix; hello: bonjour/salut;
good: bon; big: grand/gros; small: petit; beautiful: beau/belle; old: vieux; hot: chaud;
cold: froid; to eat: manger; to drink: boire; to sleep: dormir; to speak: parler; to love: aimer;
to write: écrire; to read: lire; to sing: chanter; summer: été; winter: hiver; autumn: automne;
January: janvier; August: août
"""

PLURALS = """
mouse: mice; foot: feet; tooth: teeth; goose: geese; man: men; woman: women; child: children;
ox: oxen; leaf: leaves; wolf: wolves; knife: knives; wife: wives; life: lives; half: halves;
shelf: shelves; thief: thieves; loaf: loaves; calf: calves; city: cities; baby: babies;
lady: ladies; party: parties; story: stories; country: countries; family: families; berry: berries;
puppy: puppies; fly: flies; army: armies; box: boxes; bus: buses/busses; glass: glasses;
dish: dishes; watch: watches; church: churches; fox: foxes; class: classes; dress: dresses;
kiss: kisses; peach: peaches; brush: brushes; beach: beaches; potato: potatoes; tomato: tomatoes;
hero: heroes; echo: echoes; piano: pianos; photo: photos; radio: radios; kangaroo: kangaroos;
day: days; key: keys; toy: toys; boy: boys; monkey: monkeys; donkey: donkeys; valley: valleys;
journey: journeys; roof: roofs; cliff: cliffs; chief: chiefs; belief: beliefs; dog: dogs; cat: cats;
book: books; car: cars; tree: trees; house: houses; table: tables; chair: chairs; apple: apples;
orange: oranges; horse: horses; cow: cows; bird: birds; flower: flowers; school: schools;
teacher: teachers; student: students; friend: friends; brother: brothers; sister: sisters;
river: rivers; mountain: mountains; window: windows; door: doors; garden: gardens; letter: letters;
picture: pictures; hand: hands; finger: fingers; eye: eyes; ear: ears; shoe: shoes; shirt: shirts;
star: stars; cloud: clouds; crisis: crises; analysis: analyses; oasis: oases; phenomenon: phenomena;
criterion: criteria; bacterium: bacteria; nucleus: nuclei; grandchild: grandchildren;
bridge: bridges; page: pages; judge: judges; nurse: nurses; prize: prizes; rose: roses;
bush: bushes; bench: benches; match: matches; sandwich: sandwiches; wish: wishes;
butterfly: butterflies; cherry: cherries; diary: diaries; enemy: enemies; factory: factories;
library: libraries; secretary: secretaries; spy: spies
"""

NATIONALITIES = """
France: French; Germany: German; Italy: Italian; Spain: Spanish; Portugal: Portuguese;
Greece: Greek; Russia: Russian; China: Chinese; Japan: Japanese; India: Indian; Brazil: Brazilian;
Mexico: Mexican; Canada: Canadian; Australia: Australian; Egypt: Egyptian; Poland: Polish;
Sweden: Swedish; Norway: Norwegian; Denmark: Danish; Finland: Finnish; Ireland: Irish;
Scotland: Scottish; England: English; Wales: Welsh; Austria: Austrian; Belgium: Belgian;
Switzerland: Swiss; Hungary: Hungarian; Romania: Romanian; Bulgaria: Bulgarian; Ukraine: Ukrainian;
Turkey: Turkish; Iran: Iranian; Iraq: Iraqi; Syria: Syrian; Lebanon: Lebanese; Jordan: Jordanian;
Pakistan: Pakistani; Nepal: Nepalese/Nepali; Thailand: Thai; Vietnam: Vietnamese;
Malaysia: Malaysian; Indonesia: Indonesian; Mongolia: Mongolian; Cuba: Cuban; Jamaica: Jamaican;
Argentina: Argentine/Argentinian/Argentinean; Chile: Chilean; Peru: Peruvian; Colombia: Colombian;
Venezuela: Venezuelan; Bolivia: Bolivian; Kenya: Kenyan; Nigeria: Nigerian; Ghana: Ghanaian;
Ethiopia: Ethiopian; Somalia: Somali/Somalian; Libya: Libyan; Morocco: Moroccan; Tunisia: Tunisian;
Algeria: Algerian; Iceland: Icelandic; Estonia: Estonian; Latvia: Latvian; Lithuania: Lithuanian;
Croatia: Croatian; Serbia: Serbian; Slovenia: Slovenian/Slovene; Slovakia: Slovak/Slovakian;
Albania: Albanian; Cyprus: Cypriot; Malta: Maltese; Armenia: Armenian; Cambodia: Cambodian;
Uganda: Ugandan; Zambia: Zambian; Angola: Angolan; Rwanda: Rwandan; Senegal: Senegalese;
Sudan: Sudanese; Paraguay: Paraguayan; Uruguay: Uruguayan; Panama: Panamanian; Haiti: Haitian;
Honduras: Honduran; Kuwait: Kuwaiti; Yemen: Yemeni
"""

# The words that are to be repeated: short, common, in no order.
WORDS = """
apple river stone table music paper garden window silver mountain bridge candle yellow summer
doctor forest island market winter pencil basket kitchen monkey orange planet rabbit school street
tiger village castle dragon finger hammer jacket ladder needle pepper rocket saddle ticket valley
wallet anchor bottle circle desert engine flower guitar helmet insect jungle kettle lemon mirror
napkin ocean pillow queen ribbon shadow tunnel violin wagon butter carpet dinner farmer honey
letter
"""
