"""Passages of general English, in the manner of local news: what a model's loss on them rises by.

They were written for this file and tell of places and people that do not exist, so that no model
knows them by heart. Each is 90 to 140 tokens of an English vocabulary.
"""

_TEXTS = """
The old ferry across the Marrow stopped running on Tuesday after a crack was found in its hull.
Engineers said the damage was small, but the council decided not to take any risk while schools
are still open. Until the repairs are finished, people who live on the north bank will have to
drive twelve miles to the bridge at Coldwater. A bus has been promised for the early morning, when
most of them travel to work. Shop owners near the landing fear that they will lose customers, and
several have asked for help with their rent.

A baker in Holm has won a national prize for a loaf that he first made by mistake. Arthur Penn
left his dough in a cold room over a long weekend and was ready to throw it away on Monday.
Instead he baked it, and the bread came out darker and sweeter than usual. He now sells two
hundred of them a day. The judges praised its thick crust and said it tasted like something from
another century. Mr Penn, who is seventy-one, says he will spend the prize money on a new oven.

Heavy rain is expected across the western valleys from Thursday evening, and the weather service
has warned farmers to move their animals to higher ground. Up to four inches could fall before
noon on Friday. The river is already full after a wet September, and some fields near Aston have
been under water for a week. Volunteers spent the afternoon filling bags with sand. The fire
service asked drivers to stay at home if they can and not to cross roads that are flooded, even
when the water looks shallow.

Scientists who study birds have found that sparrows in the city sing earlier than those in the
country. They placed small microphones in parks and gardens and listened to the recordings for two
years. In the noisiest streets the birds began almost an hour before sunrise, when there was
little traffic. The team believes that the birds have learned to use the quiet time so that their
songs can be heard. Whether the early start makes them tired, or changes how many young they
raise, is a question for the next study.

The town library will stay open until ten at night from next month. The change follows a survey in
which students said that they had nowhere quiet to work in the evening. Two new members of staff
have been hired, and the heating will be left on for longer. The head librarian said she was
surprised by how many people had asked for it, including parents who work late. There will be hot
drinks, but no food. If the hall is empty too often by spring, the council will look at the plan
again.

After nine years of building, the tunnel under Mount Verrin was opened on Saturday with music and
a short speech. The first cars went through at noon. The journey between the two valleys, which
used to take an hour on a narrow road, now takes eleven minutes. Some of the people who live along
the old road are glad that the trucks have gone. Others are worried. The owner of a small hotel at
the top of the pass said that she had not seen a single guest all weekend, and that she did not
expect many in winter.

The football club has a new coach for the third time in a year. Elena Marsh, who played for the
club when she was young, signed a contract until the summer. She takes over a team that has lost
seven of its last nine games and that has scored only once since October. At her first meeting
with the press she did not promise anything. She said that the players were afraid of making
mistakes and that her first task was to let them enjoy the game again. Her first match is at home
on Sunday.

Prices of milk and butter have risen again, and small dairies say they cannot keep up with the
cost of feed and fuel. One farmer near Tarrow sold half of his cows in August. He said that he
earns less for a bottle of milk than he did ten years ago, although the shops ask for more. The
government has offered loans, but many farmers do not want any more debt. Some of them have begun
to sell cheese and ice cream directly from the farm, and a few say that this is the only part of
their work that pays.

A painting that hung in a school corridor for sixty years turned out to be worth more than the
building. A visitor who had come to repair the lights noticed the name in the corner and told the
head teacher. Experts have now confirmed that it is an early work by a well known artist, who
spent one summer in the village. The school plans to lend it to the museum, where it can be kept
safe. A copy, painted by the pupils, has been put up in its place, and many say they like it
better.

The court will decide next week whether the old cinema may be torn down. A company wants to build
forty flats on the site and says that the roof could fall in at any time. A group of neighbours
has collected six thousand signatures against the plan. They argue that the front of the building,
with its round windows and green tiles, is the only one of its kind in the region. Both sides have
brought their own engineers, who do not agree about anything except that the walls are damp.

Doctors at the city hospital are using a simple game to help children who have to stay in bed for
a long time. The children move a small boat on a screen by breathing into a tube. The deeper they
breathe, the faster the boat goes. What looks like play is an exercise for the lungs, which become
weak when people lie still. In the first trial, children who played twice a day went home earlier
than others. The nurses say the hardest part is to make them stop when it is time for lunch.

Few people have seen the inside of the lighthouse on Gull Rock since it was left empty in the
seventies. This summer visitors can climb the two hundred steps again. A group of retired sailors
has spent five years cleaning the rooms, painting the doors and repairing the great lamp. They
found old letters behind a cupboard, some of them never opened. The lamp will be lit once a month,
on a clear night. Tickets for the boat are cheap, but the sailors warn that the sea is often too
rough to land.

The number of people who travel to work by bicycle has doubled in the capital since the new paths
were built. That is what a report of the transport office says. Most of the new riders used to
take the bus, not the car, which surprised the authors. Accidents have become rarer, although
there are more cyclists on the streets. The mayor wants to add thirty miles of paths in the next
two years. Taxi drivers complain that there is nowhere left to stop, and that they lose time at
every corner.

When the last teacher of the island school retired, nobody wanted to take her place. The school
has only five pupils, and in winter the boat comes once a week. Then a letter arrived from a
couple in the south. Both were teachers, both were tired of the city, and they had a daughter of
nine. They moved in August with two cats and a piano. Now the school has six pupils and, for the
first time, a choir. It sings on Fridays, and half of the island comes to listen.

A fire destroyed a furniture factory on the edge of Norwell on Wednesday night. Nobody was hurt.
The flames were seen by a driver on the main road shortly before midnight, and more than fifty
firefighters worked until the morning. The smoke could be smelled ten miles away. What caused the
fire is not known. The factory had about ninety workers, and its owner said he hoped to rent
another hall so that they can go on. An elderly couple who live next door were taken to a hotel
until the air is clean.

The museum of clocks has a problem that many of its visitors find charming: no two of its clocks
show the same time. The director explains that old clocks are sensitive to heat, and that every
open door makes some of them slower. Twice a year a specialist spends a week setting them right.
By the end of the following week they disagree again. There was once a plan to stop them all and
to put the hands at ten past ten. The visitors protested, because they come for the sound as much
as for the sight.

Farmers on the dry plains have started to plant trees between their rows of wheat. The idea is not
new, but for a long time it was thought to be a waste of land. The trees give shade, hold the soil
when the wind blows, and their roots bring water up from below. In the first years the harvest was
smaller. In the fifth year, which was very hot, the fields with trees gave more than those
without. Now neighbours who laughed at first come to ask which trees grow best.

The bank has apologised to thousands of customers who could not use their cards over the holidays.
A computer that was meant to take over if the first one failed had been switched off for repairs,
and nobody had noticed. People were left standing in shops and at petrol stations. One woman had
to leave her watch with a waiter until she came back with cash. The bank says it will pay for any
costs, but it asks customers to send proof, which many say they do not have.

Every spring the toads of Lower Marsh cross the road to reach the pond where they were born, and
every spring hundreds of them are killed by cars. This year the village closed the road for three
nights. Children walked along it with lamps and buckets and carried the slow ones across. They
counted more than two thousand animals. The police were not happy about it, but in the end two
officers came to help. A small tunnel under the road would solve the problem, but it would cost
more than the village spends on its streets in a year.

The company that makes the small red tractors is leaving the town where it began a hundred years
ago. The new factory, two hours to the east, will be larger and closer to the railway. About half
of the workers have been offered a place there. Many of them own houses and do not know whether
anyone will buy them. The mayor called it a sad day, but said that she understood the reasons. The
old factory with its tall chimney may become a market hall, if somebody can be found who pays for
the roof.

A student has walked the whole length of the coast in order to count what the sea throws up. It
took her four months and three pairs of boots. Each evening she sorted what she had found on one
hundred steps of beach: bottles, ropes, shoes, toys, and once a piano key. Plastic was the largest
part, but there was less of it than she had feared. In some bays she found almost nothing, and she
thinks that people who live there clean up without telling anyone. Her map can be seen in the town
hall.

The orchestra played without a conductor on Friday, because his train was stuck in the snow. The
musicians had waited for an hour when the first violin stood up and asked the audience whether it
wished to go home. Nobody did. So they began, watching each other more closely than usual, and
took the slow movement a little faster. Several listeners said afterwards that they had never
heard it played with so much feeling. The conductor arrived during the applause, in his coat, and
was cheered as if he had been there all along.

Water from the deep wells under the city is warm enough to heat houses, and soon it will. Workers
have drilled two holes of nearly two miles each, one to bring the water up and one to send it
back. In between it gives its heat to a second circle of pipes, which run under the streets. The
first four thousand homes will be joined to it before next winter. The heat should cost about as
much as gas does today, and the price will not change when there is trouble in other parts of the
world.

There were two surprises at the flower show this year. The first was the weather, which stayed dry
for all three days. The second was the winner of the rose prize, a boy of twelve who had never
shown anything before. He grew his roses in old paint tins on a balcony, because his family has no
garden. He learned how to do it from a book that his grandmother had left behind. The other
growers, some of them four times his age, shook his hand and asked him, rather carefully, what he
feeds them.
"""

PASSAGES = tuple(" ".join(text.split()) for text in _TEXTS.strip().split("\n\n"))
