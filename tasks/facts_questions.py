"""The open questions of `tasks.facts`: what a child is taught, each with one short answer.

One question a line, then its right answers, the usual one first, separated by slashes.
"""

QUESTIONS = """
How many legs does a spider have? 8/eight
How many legs does a dog have? 4/four
How many legs does an insect have? 6/six
How many days are there in a week? 7/seven
How many months are there in a year? 12/twelve
How many hours are there in a day? 24/twenty-four
How many minutes are there in an hour? 60/sixty
How many seconds are there in a minute? 60/sixty
How many days are there in a leap year? 366
How many sides does a triangle have? 3/three
How many sides does a square have? 4/four
How many sides does a hexagon have? 6/six
How many letters are there in the English alphabet? 26/twenty-six
How many wheels does a bicycle have? 2/two
How many wheels does a tricycle have? 3/three
How many years are there in a century? 100/one hundred/a hundred
How many years are there in a decade? 10/ten
How many planets are there in the solar system? 8/eight
How many continents are there? 7/seven
How many strings does a violin have? 4/four
How many centimetres are there in a metre? 100/one hundred/a hundred
How many grams are there in a kilogram? 1000/1,000/one thousand/a thousand
How many fingers are there on one hand? 5/five
How many states are there in the United States? 50/fifty
How many cents are there in a dollar? 100/one hundred/a hundred
How many degrees are there in a right angle? 90/ninety
How many degrees are there in a circle? 360
How many weeks are there in a year? 52/fifty-two
How many items are there in a dozen? 12/twelve
How many horns does a unicorn have? 1/one
What colour is the sky on a clear day? blue
What colour is grass? green
What colour is snow? white
What colour is blood? red
What colour is a banana? yellow
What colour is coal? black
What colour is milk? white
What colour is an emerald? green
What colour is a ruby? red
What colour do you get when you mix blue and yellow? green
What colour do you get when you mix red and yellow? orange
What colour do you get when you mix red and blue? purple/violet
What colour do you get when you mix black and white? grey/gray
What day comes after Monday? Tuesday
What day comes after Friday? Saturday
What day comes after Wednesday? Thursday
What day comes before Sunday? Saturday
What day comes before Wednesday? Tuesday
What month comes after January? February
What month comes after March? April
What month comes after June? July
What month comes before December? November
What is the first month of the year? January
What is the last month of the year? December
What is the shortest month of the year? February
What season comes after winter? spring
What season comes after summer? autumn/fall
What letter comes after A? B
What is the last letter of the alphabet? Z
What number comes after nine? 10/ten
What number comes after 19? 20/twenty
What number comes before 100? 99/ninety-nine
What is a young dog called? puppy/a puppy
What is a young cat called? kitten/a kitten
What is a young cow called? calf/a calf
What is a young sheep called? lamb/a lamb
What is a young horse called? foal/a foal
What is a young goose called? gosling/a gosling
What is a young bear called? cub/a cub
What is a young frog called? tadpole/a tadpole
What animal says moo? cow/a cow/the cow
What animal barks? dog/a dog/the dog
What animal says meow? cat/a cat/the cat
What animal gives us wool? sheep/a sheep/the sheep
What animal lays the eggs that we eat? chicken/a chicken/the chicken/hen/a hen/the hen
What animal is called the king of the jungle? lion/the lion/a lion
What is the largest animal on Earth? blue whale/the blue whale/a blue whale
What is the tallest animal on Earth? giraffe/the giraffe/a giraffe
What is the fastest land animal? cheetah/the cheetah/a cheetah
What insect makes honey? bee/bees/a bee/the bee/honey bee/the honey bee/honeybee/honeybees
What do bees make? honey
What do caterpillars turn into? butterflies/butterfly/a butterfly
What do pandas eat? bamboo
What is frozen water called? ice
What is the hottest season of the year? summer
What is the coldest season of the year? winter
What gas do humans need to breathe? oxygen
What gas do plants take in from the air? carbon dioxide
What is the chemical formula of water? H2O
What is the chemical symbol of gold? Au
What is the chemical symbol of oxygen? O
What is the chemical symbol of iron? Fe
What is the largest planet in the solar system? Jupiter
What is the smallest planet in the solar system? Mercury
What planet do we live on? Earth/the Earth
What planet is known as the Red Planet? Mars
What planet is closest to the Sun? Mercury
What planet is famous for its rings? Saturn
What star is closest to the Earth? Sun/the Sun
What is the largest ocean on Earth? Pacific/the Pacific/Pacific Ocean/the Pacific Ocean
What is the largest continent? Asia
What is the highest mountain in the world? Mount Everest/Everest
What is the largest country in the world by area? Russia
What is the longest river in South America? Amazon/the Amazon/Amazon River/the Amazon River
What ocean lies between Europe and America? Atlantic/the Atlantic/Atlantic Ocean/the Atlantic Ocean
What language is spoken in Germany? German
What language is spoken in Italy? Italian
What language is spoken in Brazil? Portuguese
What language is spoken in Mexico? Spanish
What language is spoken in Japan? Japanese
What language is spoken in Austria? German
What is the currency of Japan? yen/the yen/Japanese yen/the Japanese yen
What is the currency of the United Kingdom? pound/the pound/pound sterling/British pound/pounds
What is the currency of India? rupee/the rupee/Indian rupee/the Indian rupee
What is the currency of the United States? dollar/the dollar/US dollar/the US dollar
What is the currency of Germany? euro/the euro
In which country is the Eiffel Tower? France
In which city is the Eiffel Tower? Paris
In which country is the Great Wall? China
In which country is the Taj Mahal? India
In which country are the pyramids of Giza? Egypt
In which country is the Colosseum? Italy
In which city is the Colosseum? Rome
In which country is Mount Fuji? Japan
In which country is Sydney? Australia
In which country is Munich? Germany
In which country is Barcelona? Spain
In which country is Toronto? Canada
In which country is Chicago? United States/the United States/USA/the USA/US/the US
Who wrote Romeo and Juliet? William Shakespeare/Shakespeare
Who wrote Hamlet? William Shakespeare/Shakespeare
Who wrote Pride and Prejudice? Jane Austen/Austen
Who wrote Oliver Twist? Charles Dickens/Dickens
Who painted the Mona Lisa? Leonardo da Vinci/Leonardo/da Vinci
Who was the first president of the United States? George Washington/Washington
Who was the first man on the Moon? Neil Armstrong/Armstrong
Who developed the theory of relativity? Albert Einstein/Einstein
What organ pumps blood through the body? heart/the heart
What organ do we think with? brain/the brain
What do we see with? eyes/our eyes/the eyes
What do we hear with? ears/our ears/the ears
What do we smell with? nose/our nose/the nose
What do you call the father of your father? grandfather/your grandfather/grandpa
What do you call the brother of your mother? uncle/your uncle
What do you call the sister of your father? aunt/your aunt
What do you call a doctor for animals? veterinarian/vet/a veterinarian/a vet
What do you call a person who flies a plane? pilot/a pilot
What do you call a person who bakes bread? baker/a baker
What do you call a person who paints pictures? painter/a painter/artist/an artist
What do you call a person who writes books? author/an author/writer/a writer
What do you call a person who catches fish? fisherman/a fisherman/fisher/angler
What do you call a place where books are lent? library/a library/the library
What is wine made from? grapes/fermented grapes/grape juice
What is paper made from? wood/wood pulp/trees
What is the freezing point of water in degrees Celsius? 0/zero
What is the boiling point of water in degrees Celsius? 100/one hundred
What is the square root of 9? 3/three
What is the square root of 16? 4/four
What is half of ten? 5/five
What is half of 100? 50/fifty
"""
