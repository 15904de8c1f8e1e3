"""Words and sentences without digits: negative examples for training and testing a streaming recogniser.

They have no homophones of digits ("won", "for") and no words with a syllable like one ("someone", "before"), but many
similar words ("heaven", "late", "fix"). "train" and "test" share function words only.
"""

from collections.abc import Mapping

_TRAIN_WORDS = """
heaven lemon never sever second send self level eleven fix fox mix sick silk sit sink kiss fine nice night line mine
knife sign nylon fire file hive fight life drive dive alive hero arrow narrow zebra zeal sun run fun gun done win wine
wear tune chew tea say new moon soon shoe eat late weight gate aid age ape date thread threw throw wall warm walk size
nail nose noise phone fan apple baker basket beach bird black board boat book bottle bread bridge brother brown butter
button cabin camera candle carpet castle chair cheese cherry circle city clean climb clock cloud coffee collar copper
corner cotton cousin cream crowd danger daughter desert dinner doctor dog dollar dragon dream driver eagle early earth
easy engine evening family farmer father feather finger flower follow garden garlic ginger glass golden grass green
hammer happy harbour hello history honey horse hospital hotel house hungry island jacket journey jungle kettle kitchen
ladder language laugh learn leather letter library lion listen little lizard lunch machine magic market meadow medicine
metal middle milk mirror monday money monkey morning mother mountain mouse music needle nephew office onion open orange
oven paint paper parrot party pencil people pepper picture pillow planet plastic pocket police pony pretty problem
promise puppy purple question quick quiet rabbit radio railway rain river rocket salad salt sandwich saturday school
season shadow sheep silver simple singer sister sleep slow smile snow soldier spider spoon spring square stone story
straw sugar summer table tailor teacher tiger window
"""
_TEST_WORDS = """
melon heavy savage sock tricks stick lime vine shine wife hide pipe borrow sorrow zone young bun wool tool blue glue
bait rate ace aim cake thrill throat greet door floor acorn airport animal autumn balloon banana barrel battle beautiful
bicycle blanket branch breakfast bucket cabbage camel carrot ceiling chapel chicken chimney cloth compass cookie cricket
curtain customer diamond dolphin donkey elbow elephant emerald envelope fabric falcon fence fiddle friday friend gallery
gentle giant giraffe goat grape guitar hazel helmet hollow igloo insect jelly judge ketchup king lantern lavender lawyer
lobster magnet maple marble mayor mechanic melody mineral mustard napkin ocean olive oyster palace panda peanut pearl
pigeon pirate pizza prince pumpkin puzzle raven ribbon robin rubber saddle salmon sausage scarf skeleton squirrel
stadium tennis thunder trumpet uncle umbrella valley velvet violin volcano waffle whale willow winter wizard yellow
zipper
"""

_TRAIN_SENTENCES = """
the farmer put his basket on the kitchen table; my brother drinks warm milk in the morning; a black dog ran along the
river; she bought bread and cheese at the market; the teacher was reading a story about a dragon; please open the cabin
window; rain fell on the mountain all day; we had dinner at the old hotel; he left his jacket in the office; the doctor
will see you on monday; their garden is full of purple flowers; the clock on the wall is slow; our cousin works at the
hospital; i never drink coffee in the evening; the children were playing with a puppy; could you pass the salt and
pepper; the train will leave the station early; a spider sat behind the mirror; the engine made a strange noise; her
daughter plays music every saturday; this picture was painted by my sister; the horse jumped over the stone wall; some
people live on a small island; the soldier wrote a long letter home; that is a very good question; the police were
looking at his camera; snow covers the city in december; a little honey makes the tea sweet; the singer smiled at the
crowd; you can take the orange pencil; the lion sleeps in the long grass; they could hear the sheep from the road; the
library will be quiet at night; my mother baked a cherry pie; the boat came back in the summer; i think the carpet is
brown; he dropped a golden button in the sand; the machine will not start again; an eagle flew above the meadow; do not
leave the candle burning; the rocket went up with a loud bang; she put sugar and cream in her coffee; the river is cold
and clean; we will visit the castle in spring; the monkey stole an apple from the basket; his father drives a silver
car; there is a problem with the radio; the school was closed because of the snow; a cloud hid the sun at noon; the baby
laughed at the toy mouse; he cut the paper with a knife; the bottle is under the square table; the tailor made a leather
collar and a new jacket; it is easy if you listen; the tiger walked around its cage; most of the money was in the box;
the driver was hungry and sleepy; they paint the bridge every year; a bird sang outside the house; the history of the
city is long
"""
_TEST_SENTENCES = """
the elephant drank water beside the palace; an ancient pirate lost his wooden leg; uncle george grows pumpkins and
cabbages; the squirrel carried an acorn across the branch; a giant wave crashed against the shore; breakfast was
pancakes with maple syrup; the judge spoke in a gentle voice; we watched tennis at the stadium; thunder shook the
chimney; the violin and the trumpet sounded beautiful; winter in the valley can be harsh; a robin built its nest near
the porch; the king wore a velvet scarf; dolphins swim faster than turtles; her bicycle has a broken wheel; the wizard
concealed a magnet inside the barrel; grandma knitted us a woollen blanket; the goat nibbled a carrot; those grapes
taste like lavender soap; the mechanic repaired an airport bus; a pigeon perched on the chapel roof; the customer
ordered salmon with mustard; which envelope contains the diamond; the mayor gave a dull speech; his helmet is made of
rubber; fresh olives grow near the ocean; nobody heard the lawyer whistle; the falcon hovered over the cliffs; a camel
needs hardly any food; this puzzle is really hard; turn right at the gallery; the curtain caught the breeze; autumn
means fog and drizzle; they sell ribbons and napkins; a whale can hold its breath; the donkey refused our biscuit; that
guitar belongs with the band; jelly wobbles on a plate; the volcano erupted last friday; an oyster hides its pearl;
squirrels bury nuts beneath the willow; i would rather order pizza; a hollow log floats downstream; the prince danced
with a skeleton; rubber ducks bob in the bath; he strapped the saddle over the camel; cricket is popular in australia;
the raven snatched a shiny coin; umbrellas are useful in a storm; cook the sausage until crisp; a fiddle hung above us
near the piano; the ketchup jar is empty; giraffes have spotted necks; melody and rhythm matter most; the panda munched
bamboo shoots; mineral water costs a pound; the waffle shop shuts at dusk; insects buzz around the hazel bush; a chicken
crossed our yard; my friend collects marble statues
"""

_TRAIN_SPELLINGS = """
heaven HH EH V AX N; lemon L EH M AX N; never N EH V ER; sever S EH V ER; second S EH K AX N D; send S EH N D;
self S EH L F; level L EH V AX L; eleven AX L EH V AX N; fix F IH K S; fox F AA K S; mix M IH K S; sick S IH K;
silk S IH L K; sit S IH T; sink S IH NG K; kiss K IH S; fine F AY N; nice N AY S; night N AY T; line L AY N;
mine M AY N; knife N AY F; sign S AY N; fire F AY ER; file F AY L; hive HH AY V; fight F AY T; life L AY F;
drive D R AY V; dive D AY V; alive AX L AY V; hero HH IH R OW; arrow AE R OW; narrow N AE R OW; zebra Z IY B R AX;
zeal Z IY L; sun S AH N; run R AH N; fun F AH N; gun G AH N; done D AH N; win W IH N; wine W AY N; wear W EH R;
tune T UW N; chew CH UW; tea T IY; say S EY; new N UW; moon M UW N; soon S UW N; shoe SH UW; eat IY T; late L EY T;
weight W EY T; gate G EY T; aid EY D; age EY JH; ape EY P; date D EY T; thread TH R EH D; threw TH R UW;
throw TH R OW; wall W AO L; warm W AO R M; walk W AO K; size S AY Z; nail N EY L; nose N OW Z; noise N OY Z;
phone F OW N; fan F AE N; apple AE P AX L; basket B AE S K AX T; beach B IY CH; bird B ER D; black B L AE K;
boat B OW T; book B UH K; bread B R EH D; bridge B R IH JH; brother B R AH DH ER; button B AH T AX N;
candle K AE N D AX L; castle K AE S AX L; chair CH EH R; cheese CH IY Z; cherry CH EH R IY; city S IH T IY;
clock K L AA K; cloud K L AW D; coffee K AO F IY; copper K AA P ER; corner K AO R N ER; daughter D AO T ER;
dinner D IH N ER; dog D AO G; dragon D R AE G AX N; eagle IY G AX L; early ER L IY; easy IY Z IY; father F AA DH ER;
finger F IH NG G ER; flower F L AW ER; garden G AA R D AX N; glass G L AE S; green G R IY N; happy HH AE P IY;
hello HH AX L OW; honey HH AH N IY; horse HH AO R S; house HH AW S; jacket JH AE K AX T; kitchen K IH CH AX N;
letter L EH T ER; lion L AY AX N; machine M AX SH IY N; magic M AE JH IH K; market M AA R K AX T; milk M IH L K;
monkey M AH NG K IY; morning M AO R N IH NG; mother M AH DH ER; mouse M AW S; music M Y UW Z IH K;
orange AO R AX N JH; paper P EY P ER; river R IH V ER; school S K UW L; sheep SH IY P; sister S IH S T ER; snow S N OW;
sugar SH UH G ER; table T EY B AX L; teacher T IY CH ER; tiger T AY G ER; window W IH N D OW
"""
_TEST_SPELLINGS = """
melon M EH L AX N; heavy HH EH V IY; savage S AE V IH JH; sock S AA K; tricks T R IH K S; stick S T IH K; lime L AY M;
vine V AY N; shine SH AY N; wife W AY F; hide HH AY D; pipe P AY P; borrow B AA R OW; sorrow S AA R OW; zone Z OW N;
young Y AH NG; bun B AH N; wool W UH L; tool T UW L; blue B L UW; glue G L UW; bait B EY T; rate R EY T; ace EY S;
aim EY M; cake K EY K; thrill TH R IH L; throat TH R OW T; greet G R IY T; door D AO R; floor F L AO R; king K IH NG;
goat G OW T; grape G R EY P; guitar G AX T AA R; jelly JH EH L IY; ocean OW SH AX N; pizza P IY T S AX;
raven R EY V AX N; robin R AA B AX N; scarf S K AA R F; thunder TH AH N D ER; uncle AH NG K AX L; valley V AE L IY;
winter W IH N T ER; yellow Y EH L OW; whale W EY L; zipper Z IH P ER
"""


def _sentences(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(sentence.split()) for sentence in text.split(";"))


def _spellings(text: str) -> dict[str, tuple[str, ...]]:
    return {word: tuple(phonemes) for word, *phonemes in _sentences(text)}


WORDS: Mapping[str, tuple[str, ...]] = {"train": tuple(_TRAIN_WORDS.split()), "test": tuple(_TEST_WORDS.split())}
SENTENCES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "train": _sentences(_TRAIN_SENTENCES),
    "test": _sentences(_TEST_SENTENCES),
}
SPELLINGS: Mapping[str, Mapping[str, tuple[str, ...]]] = {  # of some of WORDS, in the synthesiser's phonemes
    "train": _spellings(_TRAIN_SPELLINGS),
    "test": _spellings(_TEST_SPELLINGS),
}
