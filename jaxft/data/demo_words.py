"""The words of the demo corpus: opinions of both polarities, and neutral words. Data for `demo`.

Lists of the same kind are equally long for both polarities, so that the frequency of words does not give one away.
"""
# ruff: noqa: SIM905 - words read better as text than as quoted items

ADJECTIVES = {
    "positive": """
absorbing accomplished admirable adorable affecting alluring amazing amusing appealing arresting artful assured
astonishing astute authentic awesome balanced beautiful beguiling believable bewitching blissful bold bracing
breathtaking breezy bright brilliant brisk buoyant captivating charismatic charming cheerful classy clever coherent
cohesive compassionate compelling confident convincing courageous crisp dazzling deft delicate delicious delightful
dignified disarming distinctive droll dynamic electric electrifying elegant eloquent enchanting endearing energetic
engaging engrossing enjoyable enlightening entertaining enthralling evocative excellent exceptional exciting exemplary
exhilarating exquisite extraordinary exuberant fabulous fantastic fascinating faultless fearless flawless fluent
focused fresh funny generous genial gentle genuine gifted glorious glowing gorgeous graceful gratifying great gripping
handsome harmonious heartfelt heartwarming hilarious honest humane hypnotic imaginative immaculate immersive
impeccable impressive incisive incredible infectious ingenious innovative insightful inspired inspiring intelligent
inventive invigorating irresistible joyful joyous jubilant layered lively lovable lovely lucid luminous luscious lush
lyrical magical magnetic magnificent majestic marvellous masterful masterly meaningful memorable mesmerizing
meticulous miraculous moving nimble noble nuanced original outstanding passionate peerless penetrating perceptive
perfect persuasive phenomenal playful pleasant pleasing poetic poignant polished potent powerful precise priceless
profound radiant rapturous ravishing refined refreshing relatable remarkable resonant rewarding riveting robust
rousing satisfying seamless sensational sensitive sharp shrewd sincere skilful smart soaring solid sophisticated
soulful sparkling spectacular spellbinding spirited splendid spontaneous staggering stellar stirring striking stunning
stylish sublime subtle sumptuous superb supple suspenseful tasteful taut tender terrific thoughtful thrilling timeless
touching transcendent triumphant truthful unforgettable unmissable uplifting vibrant vigorous vivid warm winning wise
witty wonderful wondrous zesty
""".split(),
    "negative": """
abrasive absurd abysmal aimless amateurish annoying appalling atrocious awful awkward bad baffling banal bewildering
bland bloated boring botched brainless broken bumbling careless cartoonish chaotic charmless cheap cheesy childish
choppy clueless clumsy clunky confused confusing contrived crass crude cynical daft deplorable depressing derivative
desperate dire disappointing disastrous disgraceful disgusting dishonest disjointed dismal distracting drab dreadful
dreary dull dumb embarrassing empty endless erratic excruciating exhausting faceless fake faulty feeble flabby flat
flawed flimsy foolish forced forgettable formulaic fragmented frustrating futile garish generic ghastly glib gloomy
graceless grating gratuitous gross grotesque hackneyed haphazard hateful heartless hideous hollow hopeless horrendous
horrible humourless idiotic illogical implausible inane incoherent incompetent inconsistent indulgent inept
infuriating insincere insipid insufferable insulting interminable irksome irritating jarring joyless juvenile
laborious lame laughable lazy leaden lethargic lifeless loathsome lousy ludicrous maddening manipulative meandering
meaningless mechanical mediocre messy mindless miscast miserable misguided monotonous moronic muddled mundane nasty
nauseating needless nonsensical numbing obnoxious obvious odious offensive outdated overblown overcooked overlong
overwrought painful paltry pathetic patronizing pedestrian perfunctory phony plodding pointless ponderous poor preachy
predictable preposterous pretentious puerile punishing rambling repellent repetitive repulsive ridiculous rotten
rushed saccharine scattered senseless shabby shallow shameful shoddy silly simplistic slapdash sleazy sloppy slow
sluggish soulless spineless stale stiff stilted stodgy strained stupid superficial tacky tasteless tawdry tedious
tepid terrible tiresome trashy trite trivial ugly unbearable unconvincing uneven unfocused unfunny unimaginative
uninspired uninteresting unlikable unpleasant unwatchable useless vacuous vapid vile wasted weak wearisome witless
woeful wooden worthless wretched
""".split(),
}
ADVERBS = {
    "positive": """
beautifully superbly brilliantly skilfully gracefully elegantly deftly expertly finely wonderfully splendidly
masterfully tenderly cleverly sensitively smartly vividly crisply wittily confidently stylishly thoughtfully
magnificently exquisitely flawlessly impeccably ingeniously perceptively charmingly admirably shrewdly warmly sharply
eloquently lovingly precisely
""".split(),
    "negative": """
badly poorly clumsily carelessly lazily terribly horribly dreadfully woefully awkwardly stiffly sloppily crudely
ineptly feebly weakly lamely dismally atrociously abysmally painfully cheaply shabbily hideously miserably
incompetently pitifully hopelessly foolishly tediously coarsely blandly wretchedly lifelessly haphazardly joylessly
""".split(),
}
NOUNS = {
    "positive": """
triumph delight joy treat treasure gem marvel masterpiece pleasure wonder success revelation jewel feast classic
winner knockout blessing miracle gift thrill celebration charmer beauty dream masterclass stunner landmark milestone
pearl
""".split(),
    "negative": """
mess disaster failure bore disgrace shambles embarrassment disappointment travesty chore catastrophe fiasco flop
ordeal insult nightmare joke dud letdown blunder calamity farce muddle nuisance wreck misfire slog headache torment
eyesore
""".split(),
}
VERBS = {
    "positive": """
loved adored admired enjoyed cherished treasured relished savoured applauded appreciated praised celebrated embraced
welcomed respected saluted revered devoured
""".split(),
    "negative": """
hated loathed detested despised disliked resented regretted dreaded deplored abhorred mocked cursed endured rejected
scorned condemned lamented ridiculed
""".split(),
}

SINGULAR_ASPECTS = """
acting plot story script dialogue music soundtrack photography editing pacing direction ending opening cast humour
setting narration screenplay finale camerawork lighting premise atmosphere score
""".split()
PLURAL_ASPECTS = """
characters performances songs costumes effects jokes scenes sets visuals villains twists lines leads stunts
""".split()
ASPECTS = SINGULAR_ASPECTS + PLURAL_ASPECTS
CRAFTS = "acted directed written filmed edited paced staged shot scored cast".split()
GENRES = "thriller comedy drama western musical romance mystery documentary adventure cartoon".split()
WORKS = "film movie picture production feature".split()

OCCASIONS = [
    "on a long flight",
    "last night",
    "at a small festival",
    "with my brother",
    "on a rainy Sunday",
    "with two friends",
    "on television",
    "in a half full cinema",
    "after work",
    "over the weekend",
]
PEOPLE = """
farmer detective teacher sailor widow doctor student soldier painter nurse pilot baker lawyer singer reporter dancer
""".split()
DEEDS = [
    "finds a letter in the attic",
    "moves to the city",
    "inherits a hotel",
    "looks for a lost brother",
    "joins a travelling circus",
    "falls in love with a neighbour",
    "witnesses a robbery",
    "returns home after ten years",
    "takes a job at a lighthouse",
    "is mistaken for a spy",
    "crosses the desert on foot",
    "adopts an old dog",
    "opens a bakery by the sea",
    "wakes up on the wrong train",
    "buys a haunted house",
    "runs for mayor",
]
REMARKS = [
    "It runs for about two hours.",
    "Most of it was shot in Canada.",
    "I had not read the book before.",
    "There are a few scenes in the rain.",
    "The story is set in the fifties.",
    "It came out in the autumn.",
    "My sister saw it before I did.",
    "We sat in the third row.",
    "There is a short scene after the credits.",
    "It is based on a novel.",
    "I knew none of the actors.",
    "The second half takes place at night.",
    "Part of it is in French.",
    "I watched it from start to finish.",
]
