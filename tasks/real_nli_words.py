"""The words of `tasks.real_nli`: plain English, in lists that are split between the splits.

Every fifth word of a list is validation's alone. Entries of several columns are separated by
semicolons, their columns by slashes.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _rows(text: str) -> tuple[tuple[str, ...], ...]:
    entries = (" ".join(entry.split()) for entry in text.split(";"))
    return tuple(tuple(entry.split("/")) for entry in entries)


NAMES = _words(
    "Anna Peter Maria Tom Laura David Emma Paul Julia Mark Sarah Daniel Clara Simon Helen"
    " Robert Alice Martin Rosa Henry Nina Oliver Grace Victor Lucy Frank Irene George Diana"
    " Samuel"
)
JOBS = _words(
    "doctor teacher baker lawyer nurse farmer singer painter pilot judge waiter driver soldier"
    " cook banker writer dentist carpenter sailor tailor gardener plumber butcher student mayor"
)
TOWNS = _words(
    "London Paris Rome Madrid Berlin Vienna Dublin Oslo Athens Lisbon Boston Chicago Denver"
    " Dallas Toronto Sydney Cairo Tokyo Delhi Warsaw Prague Munich Milan Leeds Bristol"
)
THINGS = _words(
    "lamp clock chair table basket coat bag spoon mirror bottle ladder candle blanket bucket"
    " bicycle kettle pillow carpet wallet guitar camera radio phone umbrella suitcase"
)
ROOMS = _words(
    "hall kitchen garden library office garage cellar station museum shop school hotel theatre"
    " barn church"
)
COUNTED = _words(
    "chairs boxes books bottles cups plates candles horses dogs children tables lamps boats"
    " coats guests apples letters pictures bicycles students"
)
COLOURS = _words("red blue green black white yellow brown grey pink purple")
EVENTS = _words(
    "concert meeting film lecture wedding game race party exam dinner sale parade trial play dance"
)
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
NUMBERS = _words("two three four five six seven eight nine ten eleven twelve")
VERBS = _words(
    "thanked followed visited praised blamed called helped warned invited greeted pushed hired"
    " trusted watched rescued"
)
KINDS = _rows(
    """hammer/tool; apple/fruit; carrot/vegetable; sparrow/bird; violin/musical instrument;
    shirt/piece of clothing; screwdriver/tool; banana/fruit; onion/vegetable; eagle/bird;
    trumpet/musical instrument; jacket/piece of clothing; pear/fruit; cabbage/vegetable;
    parrot/bird; flute/musical instrument; sweater/piece of clothing; saw/tool; peach/fruit;
    potato/vegetable; robin/bird; piano/musical instrument; skirt/piece of clothing; drill/tool;
    lemon/fruit; tulip/flower; pigeon/bird; drum/musical instrument; rose/flower; truck/vehicle;
    sofa/piece of furniture; daisy/flower; bus/vehicle; desk/piece of furniture; lily/flower;
    van/vehicle; wardrobe/piece of furniture; trout/fish; salmon/fish; bookcase/piece of
    furniture"""
)
# past / base form
ACTIONS = _rows(
    """visited the museum/visit the museum; opened the window/open the window; sold the house/sell
    the house; paid the bill/pay the bill; called the police/call the police; finished the
    report/finish the report; caught the train/catch the train; locked the door/lock the door;
    fed the cat/feed the cat; read the letter/read the letter; repaired the roof/repair the
    roof; cleaned the kitchen/clean the kitchen; won the race/win the race; bought the
    tickets/buy the tickets; found the keys/find the keys; watered the flowers/water the
    flowers; passed the exam/pass the exam; answered the question/answer the question; took the
    medicine/take the medicine; booked the hotel/book the hotel; signed the contract/sign the
    contract; painted the fence/paint the fence; cooked the soup/cook the soup; washed the
    car/wash the car; turned off the light/turn off the light"""
)
# comparative / its opposite
COMPARED = _rows(
    """heavier/lighter; older/newer; bigger/smaller; taller/shorter; longer/shorter;
    wider/narrower; cheaper/more expensive; faster/slower; cleaner/dirtier; higher/lower"""
)
# the giver's verb / the receiver's
EXCHANGES = _rows(
    "sold/to/bought/from; gave/to/got/from; lent/to/borrowed/from; sent/to/received/from"
)
PEOPLE = _rows(
    """man/person; woman/person; boy/child; girl/child; old man/person; young woman/person; little
    girl/child; tall man/person; little boy/child; old woman/person"""
)
CLOTHES = _words("coat shirt hat dress jacket sweater scarf cap uniform raincoat")
# what somebody is doing, and where
DOING = _rows(
    """riding a horse; reading a newspaper; eating an apple; playing the flute; painting a
    picture; talking on the phone; drinking coffee; holding an umbrella; feeding the ducks;
    climbing a ladder; washing a car; kicking a ball; carrying a box; cutting wood; taking a
    photograph; waiting for a bus; pushing a cart; singing a song; walking a dog; sleeping on a
    bench"""
)
WHERE = _rows(
    """in the park/outside; on the beach/outside; in the kitchen/inside; in the street/outside; in
    the library/inside; by the river/outside; in the office/inside; in the forest/outside; in
    the bedroom/inside; in a field/outside; in the classroom/inside; on the mountain/outside"""
)
